// Light or dark as Airflow is: as the frame's page now, else as it was chosen last; without either, as the system.
"use strict";
(() => {
  const root = document.documentElement;
  const known = (words) => ["light", "dark"].find((theme) => words.includes(theme));

  const show = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
  };

  let outer = null;
  try {
    if (parent !== window) outer = parent.document.documentElement;
  } catch {
    // Framed by another origin: nothing of it can be read.
  }

  const follow = () => {
    let chosen = "";
    try {
      chosen = localStorage.getItem("theme") ?? "";
    } catch {
      // Storage is switched off.
    }
    show((outer && known([...outer.classList])) ?? known([chosen]));
  };

  follow();
  if (outer) new MutationObserver(follow).observe(outer, { attributes: true, attributeFilter: ["class"] });
  addEventListener("storage", follow);
})();
