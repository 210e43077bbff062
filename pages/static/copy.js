// Shows the buttons that copy a text, where the browser lets a page copy; without this the text is there to select.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    const words = button.textContent;
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      // Permission was denied: select it, so that the usual keys copy it.
      getSelection().selectAllChildren(source);
      button.textContent = "Press Ctrl+C";
    }
    document.querySelector("[role=status]").textContent = button.textContent;
    setTimeout(() => (button.textContent = words), 2000);
  });
}
