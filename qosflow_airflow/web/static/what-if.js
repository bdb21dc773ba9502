// Asks while one types, and copies. Without it the form is sent as any form.
"use strict";
(() => {
  const form = document.querySelector("form[data-answer]");
  const place = document.getElementById("answer");
  if (!form || !place) return;
  const WAIT_MS = 200;
  let timer = 0;
  let running = null;

  const asked = () => {
    const fields = new FormData(form);
    return new URLSearchParams([...fields].filter(([, value]) => value !== "")).toString();
  };

  async function ask() {
    const query = asked();
    if (running) running.abort();
    running = new AbortController();
    const mine = running;
    place.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(`${form.dataset.answer}?${query}`, { signal: mine.signal });
      if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
      const text = await answer.text();
      if (mine !== running) return;
      const open = [...place.querySelectorAll("details")].map((one) => one.open);
      place.innerHTML = text; // escaped by the server, as on the whole page
      place.querySelectorAll("details").forEach((one, at) => { one.open = open[at] ?? false; });
      history.replaceState(null, "", `?${query}#what-if`);
    } catch (error) {
      if (error.name === "AbortError") return;
      place.textContent = `The answer could not be fetched: ${error.message}`;
    }
    if (mine === running) place.removeAttribute("aria-busy");
  }

  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, WAIT_MS);
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    ask();
  });

  place.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "Selected: copy it with the keyboard";
    }
  });
})();
