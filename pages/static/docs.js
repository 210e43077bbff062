// What needs a script: one choice of language for all examples, and requests from the page with a pasted key.
const key = document.getElementById("key");
const shown = ["Dataset-Version", "ETag", "Link", "X-Total-Count"];
const longest = 20_000;

document.querySelectorAll(".key, .try").forEach((form) => (form.hidden = false));
document.querySelector(".key").addEventListener("submit", (event) => event.preventDefault());

document.addEventListener("change", ({ target }) => {
  if (target.type !== "radio") return;
  const before = target.getBoundingClientRect().top;
  document.querySelectorAll(`input[value="${target.value}"]`).forEach((each) => (each.checked = true));
  // The examples above may have become longer or shorter: what was clicked stays where it was.
  scrollBy(0, target.getBoundingClientRect().top - before);
});

function pretty(text) {
  try {
    text = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // Not JSON: shown as it is.
  }
  return text.length > longest ? `${text.slice(0, longest)}\n… and ${text.length - longest} characters more` : text;
}

async function send(path) {
  const began = performance.now();
  const answer = await fetch(path, { headers: { Authorization: `Bearer ${key.value.trim()}` } });
  const text = await answer.text();
  const headers = shown.filter((name) => answer.headers.has(name)).map((name) => `${name}: ${answer.headers.get(name)}`);
  const took = Math.round(performance.now() - began);
  return [`GET ${path}`, `${answer.status} ${answer.statusText} in ${took} ms`, ...headers, "", pretty(text)].join("\n");
}

for (const form of document.querySelectorAll(".try")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const output = form.querySelector("pre");
    const values = new FormData(form);
    const path = form.dataset.path.replace(/{(\w+)}/g, (_, name) => {
      const value = encodeURIComponent(values.get(name));
      values.delete(name);
      return value;
    });
    const query = new URLSearchParams([...values].filter(([, value]) => value !== "")).toString();
    output.hidden = false;
    output.textContent = "…";
    try {
      output.textContent = key.value.trim() ? await send(query ? `${path}?${query}` : path) : "Paste your key first, in the field above the endpoints.";
    } catch {
      output.textContent = "No answer came: is the server still running?";
    }
    if (!key.value.trim()) key.focus();
  });
}
