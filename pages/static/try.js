// Requests from the reference, with an API key that the tab keeps until it is closed.
const root = document.querySelector(".docs").dataset.root;
const key = document.getElementById("api-key");
const shownHeaders = ["Dataset-Id", "Dataset-Version", "ETag", "Link", "Location", "X-Total-Count"];
const longest = 20_000;

document.querySelectorAll(".key, .try").forEach((form) => (form.hidden = false));
key.value = stored("sessionStorage").apiKey ?? "";
key.addEventListener("input", () => (stored("sessionStorage").apiKey = key.value.trim()));
key.form.addEventListener("submit", (event) => event.preventDefault());

function pretty(text) {
  try {
    text = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // Not JSON: show the text unchanged.
  }
  return text.length > longest ? `${text.slice(0, longest)}\n… and ${text.length - longest} more characters` : text;
}

function readForm({ dataset: { method, path }, elements }) {
  const headers = { Authorization: `Bearer ${key.value.trim()}` };
  const query = [];
  let [url, body] = [path];
  for (const { name, value, type, checked, dataset } of elements) {
    if (!value || (type === "checkbox" && !checked)) continue;
    if (dataset.in === "path") url = url.replace(`{${name}}`, encodeURIComponent(value));
    if (dataset.in === "query") query.push(`${name}=${encodeURIComponent(value)}`);
    if (dataset.in === "filters") query.push(value);
    if (dataset.in === "header") headers[name] = value;
    if (dataset.in === "body") [body, headers["Content-Type"]] = [value, "application/json"];
  }
  return [query.length ? `${url}?${query.join("&")}` : url, { method, headers, body }];
}

async function send(form) {
  const [url, options] = readForm(form);
  const began = performance.now();
  const response = await fetch(root + url, options);
  const text = await response.text();
  const took = Math.round(performance.now() - began);
  const headers = shownHeaders.filter((name) => response.headers.has(name)).map((name) => `${name}: ${response.headers.get(name)}`);
  return [`${options.method} ${url}`, `${response.status} ${response.statusText} in ${took} ms`, ...headers, "", pretty(text)].join("\n");
}

for (const form of document.querySelectorAll(".try")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const output = form.querySelector("pre");
    output.hidden = false;
    output.textContent = "…";
    if (!key.value.trim()) {
      output.textContent = "Enter an API key first, in the field at the top of the page.";
      return key.focus();
    }
    // fetch() throws for headers with characters that HTTP doesn't allow.
    output.textContent = await send(form).catch((error) => `The request was not sent: ${error.message}. Is the server still running?`);
  });
}
