// One language for all examples, and requests from the page with an API key.
const key = document.getElementById("key");
const shownHeaders = ["Dataset-Id", "Dataset-Version", "ETag", "Link", "X-Total-Count"];
const longest = 20_000;

document.querySelectorAll(".key, .try").forEach((form) => (form.hidden = false));
document.querySelector(".key").addEventListener("submit", (event) => event.preventDefault());

document.addEventListener("change", ({ target }) => {
  if (target.type !== "radio") return;
  const before = target.getBoundingClientRect().top;
  document.querySelectorAll(`input[value="${target.value}"]`).forEach((each) => (each.checked = true));
  // The examples above may have changed their height: keep the clicked label in place.
  scrollBy(0, target.getBoundingClientRect().top - before);
});

function pretty(text) {
  try {
    text = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // Not JSON: show the text unchanged.
  }
  return text.length > longest ? `${text.slice(0, longest)}\n… and ${text.length - longest} more characters` : text;
}

async function send(path) {
  const began = performance.now();
  const response = await fetch(`.${path}`, { headers: { Authorization: `Bearer ${key.value.trim()}` } });
  const text = await response.text();
  const headers = shownHeaders.filter((name) => response.headers.has(name)).map((name) => `${name}: ${response.headers.get(name)}`);
  const took = Math.round(performance.now() - began);
  return [`GET ${path}`, `${response.status} ${response.statusText} in ${took} ms`, ...headers, "", pretty(text)].join("\n");
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
      output.textContent = key.value.trim() ? await send(query ? `${path}?${query}` : path) : "Enter an API key first, in the field above the endpoints.";
    } catch {
      output.textContent = "The server did not respond. Is it still running?";
    }
    if (!key.value.trim()) key.focus();
  });
}
