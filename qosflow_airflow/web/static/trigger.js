// Starts a run of a Dag with the params that the answer shows, and leads to it out of Airflow's frame.
"use strict";
(() => {
  const place = document.getElementById("trigger");
  const said = document.getElementById("triggered");
  if (!place || !said) return;
  place.hidden = false; // without a script there is nothing that it could do

  const say = (words, isProblem) => {
    said.className = isProblem ? "problem" : "";
    said.textContent = words;
  };

  const words = (values) => Object.entries(values)
    .map(([name, value]) => `${name} = ${value === null ? "none" : JSON.stringify(value)}`).join(", ");

  function show(run) {
    const defaults = words(run.defaults);
    say(`Started with ${words(run.params) || "nothing asked"}${defaults ? `, and by the Dag's own defaults ${defaults}` : ""}: `);
    const link = document.createElement("a");
    link.href = run.path;
    link.textContent = run.run_id;
    link.addEventListener("click", leave);
    said.append(link);
  }

  // A link inside the frame would open Airflow within Airflow, and the frame may not open one outside of it.
  function leave(event) {
    if (parent === window) return;
    try {
      const outer = parent.document.createElement("a");
      outer.href = event.currentTarget.href;
      parent.document.body.append(outer);
      outer.click();
      outer.remove();
      event.preventDefault();
    } catch {
      // Framed by another origin: the link opens where it is.
    }
  }

  async function start(dag) {
    const params = document.getElementById("copy-params");
    if (!params) return say("What the form holds cannot be asked: change it first.", true);
    say(`Starting a run of ${dag} …`);
    const answer = await fetch(`${place.dataset.api}${encodeURIComponent(dag)}/runs`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ workflow: place.dataset.workflow, question: JSON.parse(params.textContent) }),
    });
    const found = await answer.json();
    if (answer.ok) return show(found);
    const { message, cure } = found.error;
    return say(`No run was started: ${message.replace(/\.?$/, ".")}${cure ? ` ${cure}` : ""}`, true);
  }

  place.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-dag]");
    if (!button) return;
    const buttons = [...place.querySelectorAll("button")];
    buttons.forEach((one) => { one.disabled = true; });
    try {
      await start(button.dataset.dag);
    } catch (error) {
      say(`The run could not be started: ${error.message}`, true);
    }
    buttons.forEach((one) => { one.disabled = false; });
  });
})();
