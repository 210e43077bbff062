// Copy buttons, shown only where the browser allows a page to copy. Without them, the text can be selected.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    const label = button.textContent;
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      // Permission denied: select the text, so that Ctrl+C copies it.
      getSelection().selectAllChildren(source);
      button.textContent = "Press Ctrl+C";
    }
    document.querySelector("[role=status]").textContent = button.textContent;
    setTimeout(() => (button.textContent = label), 2000);
  });
}
