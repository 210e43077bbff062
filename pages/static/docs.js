// The documentation's search, its current section, and one language for all examples.
const find = (selector, within = document) => [...within.querySelectorAll(selector)];
const contents = document.getElementById("docs-contents");

// On a phone, the details of operations are closed at first.
if (matchMedia("(max-width: 40rem)").matches) find(".words > details[open]").forEach((each) => (each.open = false));

// Search: the index is loaded when the field is first used.
const search = document.querySelector(".search");
const query = document.getElementById("docs-search");
const hits = document.getElementById("docs-hits");
let index;
const loadIndex = () => (index ??= fetch(search.dataset.index).then((response) => response.json()));

function weight([, title, page, text], words) {
  const places = [title, page, text].map((each) => each.toLowerCase());
  // A word in the title counts most; all words must be in the entry.
  const found = words.map((word) => [9, 3, 1].find((_, place) => places[place].includes(word)) ?? -99);
  return found.reduce((sum, each) => sum + each, places[0].startsWith(words[0]) ? 5 : 0);
}

async function showHits() {
  const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
  const entries = words.length ? await loadIndex() : [];
  const best = entries.map((entry) => [weight(entry, words), entry]).filter(([each]) => each > 0);
  best.sort(([one], [other]) => other - one);
  const items = best.slice(0, 8).map(([, [url, title, page]]) => {
    const link = Object.assign(document.createElement("a"), { href: url, textContent: title });
    link.append(Object.assign(document.createElement("span"), { textContent: page }));
    return link;
  });
  hits.replaceChildren(...(items.length ? items : ["Nothing found."]).map((item) => {
    const row = document.createElement("li");
    row.append(item);
    return row;
  }));
  hits.hidden = !words.length;
}

search.hidden = false;
query.addEventListener("focus", loadIndex);
query.addEventListener("input", showHits);
search.addEventListener("submit", (event) => {
  event.preventDefault();
  hits.querySelector("a")?.click();
});
search.addEventListener("keydown", (event) => {
  const stops = [query, ...find("a", hits)];
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) stops[(stops.indexOf(document.activeElement) + step + stops.length) % stops.length].focus();
  if (event.key === "Escape") hits.hidden = true;
  if (step) event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input, textarea")) return;
  event.preventDefault();
  query.focus();
});
document.addEventListener("click", ({ target }) => {
  if (!search.contains(target) || target.closest("a")) hits.hidden = true;
  if (target.closest("#docs-contents a") && contents.matches(":popover-open")) contents.hidePopover();
});

// Redirect links to sections of the former single page to their new pages.
const anchor = location.hash.slice(1);
if (anchor && !document.getElementById(anchor)) {
  loadIndex().then((entries) => {
    const entry = entries.find(([url]) => url.endsWith(`#${anchor}`) || url.endsWith(`/${anchor}`));
    if (entry) location.replace(entry[0]);
  });
}

// The current section.
const links = new Map(find(".sections a").map((link) => [document.getElementById(link.hash.slice(1)), link]));
function markSection() {
  const isAtEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
  const passed = [...links.keys()].filter((section) => isAtEnd || section.getBoundingClientRect().top < 120);
  links.forEach((link) => link.removeAttribute("aria-current"));
  links.get(passed.at(-1))?.setAttribute("aria-current", "location");
}
addEventListener("scroll", markSection, { passive: true });
markSection();
// Where the contents are taller than the window, they show the sections of this page.
const current = contents.querySelector("[aria-current=page]").parentElement;
contents.scrollTop = current.offsetTop + current.offsetHeight + 16 - contents.clientHeight;

// Examples: the address that the page was loaded from, and the language that was chosen last.
if (location.protocol === "https:") {
  find("code, code span").forEach(({ childNodes }) =>
    childNodes.forEach((node) => node.nodeType === 3 && (node.data = node.data.replaceAll(`http://${location.host}`, location.origin))),
  );
}
const choose = (language) => find(`input[value="${language}"]`).forEach((each) => (each.checked = true));
// Access to the storage raises an error in browsers that block it.
const stored = (name) => {
  try {
    return window[name];
  } catch {
    return {};
  }
};
const { language } = stored("localStorage");
if (language) choose(language);
document.addEventListener("change", ({ target }) => {
  if (target.type !== "radio") return;
  const before = target.getBoundingClientRect().top;
  choose((stored("localStorage").language = target.value));
  // The examples above may have changed their height: keep the clicked label in place.
  scrollBy(0, target.getBoundingClientRect().top - before);
});

// Keep the quickstart's new key for “Try it” on the other pages, until the tab is closed.
const newKey = document.getElementById("new-key");
if (newKey) stored("sessionStorage").apiKey = newKey.textContent;
