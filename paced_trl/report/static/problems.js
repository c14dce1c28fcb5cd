// The table of problems: search, filters, sorting, and completions before and after training side by side.
// Everything shown was written by a model or a user, and is set as text only.
"use strict";
(() => {
  const { arms, arm: firstArm, sets, rows } = JSON.parse(document.getElementById("problem-data").textContent);
  const PAGE = 50;
  const LEVELS = { out: "out of reach", frontier: "frontier", mastered: "mastered", unmeasured: "unmeasured" };
  const browser = document.getElementById("browser");
  const find = (name) => browser.querySelector(`[data-part="${name}"]`);
  const [search, setChoice, armChoice, levelChoice, verdictChoice] =
    ["search", "set", "arm", "level", "verdict"].map((name) => find(name));
  const headers = [...browser.querySelectorAll("th[data-key]")];
  const state = { arm: firstArm, key: null, descending: true, page: 0, open: new Set() };
  let shown = rows;

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  // Text in which every character can be seen; the same rule as `visible` in problem_samples.py.
  const UNSEEN = /([\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}])/u;
  function visible(text) {
    const fragment = document.createDocumentFragment();
    for (const part of text.split(UNSEEN)) {
      if (part === "\n" || !UNSEEN.test(part)) {
        fragment.append(part);
        continue;
      }
      const code = part.codePointAt(0);
      const name = `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
      const symbol = code < 0x20 ? String.fromCodePoint(0x2400 + code) : code === 0x7f ? "\u2421" : name;
      fragment.append(element("span", { className: "unseen", title: name }, symbol));
    }
    return fragment;
  }

  function rate(row, arm) {
    const counts = row.counts[arm];
    return counts && counts[1] ? counts[0] / counts[1] : null;
  }

  function change(row) {
    const before = rate(row, 0), after = state.arm ? rate(row, state.arm) : null;
    return before === null || after === null ? null : after - before;
  }

  function level(row) {
    const value = rate(row, 0);
    return value === null ? "unmeasured" : value === 0 ? "out" : value === 1 ? "mastered" : "frontier";
  }

  const VALUES = {
    problem: (row) => row.prompt ?? row.id,
    set: (row) => sets[row.set],
    before: (row) => rate(row, 0),
    after: (row) => (state.arm ? rate(row, state.arm) : null),
    change,
    weight: (row) => row.weight,
  };

  let searchable = null;
  function textOf(index) {
    searchable ??= rows.map((row) => {
      const completions = Object.values(row.shown).flat().flatMap((each) => [each[3], each[4] ?? ""]);
      return [row.id, row.prompt, row.solution, row.reference, ...completions].filter(Boolean).join("\n").toLowerCase();
    });
    return searchable[index];
  }

  function select() {
    const words = search.value.trim().toLowerCase();
    const verdict = verdictChoice.value;
    shown = rows.filter((row, index) =>
      (!setChoice.value || String(row.set) === setChoice.value) &&
      (!levelChoice.value || level(row) === levelChoice.value) &&
      (!verdict || Object.values(row.shown).some((made) => made.some((each) => each[1] === verdict))) &&
      (!words || textOf(index).includes(words)));
    if (state.key) {
      const value = VALUES[state.key], sign = state.descending ? -1 : 1;
      const keyed = shown.map((row) => [value(row), row]);
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null); // what was not measured comes last
        return sign * (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
      });
      shown = keyed.map(([, row]) => row);
    }
    state.page = 0;
    draw();
  }

  function meter(value, counts) {
    if (value === null) return element("td", { className: "number empty" }, counts ? "no verdict" : "–");
    const bar = element("span");
    bar.style.width = `${100 * value}%`;
    const holder = element("span", { className: "meter" }, bar);
    holder.setAttribute("aria-hidden", "true");
    return element("td", { className: "number" }, holder, ` ${counts[0]} of ${counts[1]}`);
  }

  function signed(value) {
    const text = value === null ? "–" : (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(2);
    const style = value === null ? "empty" : value > 0 ? "better" : value < 0 ? "worse" : "";
    return element("td", { className: `number ${style}` }, text);
  }

  function block(title, text, note = "") {
    if (text === null) return [];
    const heading = element("h4", {}, title);
    if (note) heading.append(" ", element("small", {}, note));
    return [heading, element("pre", {}, visible(text))];
  }

  function completionsOf(row, arm, title) {
    const made = row.shown[arm];
    if (!made) return [];
    const counts = row.counts[arm];
    const heading = element("h3", {}, visible(title));
    if (counts) heading.append(" ", element("small", {}, `${counts[0]} of ${counts[1]} passed`));
    const side = element("div", { className: "side" }, heading);
    for (const [index, verdict, tokens, text, answer] of made) {
      const header = element("h4", {}, `Completion ${index} of ${row.made[arm]} `,
        element("span", { className: `verdict-${verdict}` }, verdict), " ", element("small", {}, `${tokens} tokens`));
      side.append(header);
      if (answer !== null) side.append(element("p", { className: "answer" }, "read as ", element("code", {}, visible(answer))));
      side.append(text ? element("pre", {}, visible(text)) : element("p", { className: "small" }, "Nothing: the completion is empty."));
    }
    return [side];
  }

  function detail(row) {
    const earlier = row.earlier ? `last message; ${row.earlier} before it not shown` : "";
    const after = state.arm ? completionsOf(row, state.arm, arms[state.arm]) : [];
    const sides = element("div", { className: "sides" }, ...completionsOf(row, 0, `${arms[0]}, before training`), ...after);
    const number = element("p", { className: "small" }, "Problem ", element("code", {}, visible(row.id)));
    if (row.prompt === null) number.append("; its prompt was not kept with the evaluation");
    const cell = element("td", { colSpan: headers.length }, element("div", { className: "body" }, number,
      ...block("Prompt", row.prompt, earlier), ...block("Solution", row.solution),
      ...block("Reference", row.reference, "by the teacher, passed"), sides));
    return element("tr", { className: "detail" }, cell);
  }

  function rowElement(row) {
    const button = element("button", { type: "button", className: "start" },
      visible((row.prompt ?? row.id).slice(0, 160).replaceAll("\n", " ") || "(empty)"));
    const isOpen = () => state.open.has(row);
    button.setAttribute("aria-expanded", String(isOpen()));
    const line = element("tr", {}, element("th", { scope: "row" }, button), element("td", {}, visible(sets[row.set])),
      meter(rate(row, 0), row.counts[0]), meter(VALUES.after(row), state.arm ? row.counts[state.arm] : null),
      signed(change(row)), element("td", { className: "number" }, row.weight === null ? "–" : row.weight.toFixed(2)));
    button.addEventListener("click", () => {
      if (!state.open.delete(row)) state.open.add(row);
      button.setAttribute("aria-expanded", String(isOpen()));
      if (isOpen()) line.after(detail(row));
      else line.nextElementSibling.remove();
    });
    return isOpen() ? [line, detail(row)] : [line];
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    const start = state.page * PAGE;
    find("rows").replaceChildren(...shown.slice(start, start + PAGE).flatMap(rowElement));
    const range = shown.length > PAGE ? `${start + 1} to ${Math.min(start + PAGE, shown.length)} of ` : "";
    find("count").textContent = `${range}${shown.length.toLocaleString("en")} ${shown.length === 1 ? "problem" : "problems"}` +
      (shown.length < rows.length ? ` (of ${rows.length.toLocaleString("en")})` : "");
    find("page").textContent = `Page ${state.page + 1} of ${pages}`;
    find("previous").disabled = state.page === 0;
    find("next").disabled = state.page >= pages - 1;
    find("pager").hidden = pages === 1;
    for (const header of headers) {
      const sorted = header.dataset.key === state.key;
      header.setAttribute("aria-sort", sorted ? (state.descending ? "descending" : "ascending") : "none");
    }
  }

  function sortBy(key) {
    // The first click shows the largest of a number, and the first of a name.
    state.descending = state.key === key ? !state.descending : !["problem", "set"].includes(key);
    state.key = key;
    select();
  }

  function turn(pages) {
    state.page += pages;
    draw();
    find("count").scrollIntoView({ block: "start" });
  }

  const option = (value, text) => element("option", { value }, text);
  setChoice.append(option("", "all"), ...sets.flatMap((name, number) =>
    rows.some((row) => row.set === number) ? [option(String(number), name)] : []));
  levelChoice.append(option("", "all"), ...Object.entries(LEVELS).map(([value, text]) => option(value, text)));
  armChoice.append(...arms.flatMap((name, number) => (number ? [option(String(number), name)] : [])));
  armChoice.value = String(state.arm);
  armChoice.closest("label").hidden = arms.length < 2;
  armChoice.addEventListener("change", () => {
    state.arm = Number(armChoice.value);
    select();
  });
  for (const choice of [setChoice, levelChoice, verdictChoice]) choice.addEventListener("change", select);
  for (const header of headers) header.querySelector("button").addEventListener("click", () => sortBy(header.dataset.key));
  let timer;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(select, 150);
  });
  find("previous").addEventListener("click", () => turn(-1));
  find("next").addEventListener("click", () => turn(1));
  find("rows").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !event.target.matches("button.start")) return;
    const buttons = [...find("rows").querySelectorAll("button.start")];
    buttons[buttons.indexOf(event.target) + step]?.focus();
    event.preventDefault();
  });
  browser.hidden = false;
  sortBy(rows.some((row) => change(row) !== null) ? "change" : "weight");
})();
