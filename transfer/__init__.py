"""Files of rows: `export` writes and `import` reads every resource as lines of NDJSON or CSV."""
