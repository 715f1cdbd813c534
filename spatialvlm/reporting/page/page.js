"use strict";
// Items are rows of numbers and texts (see explorer.py); images lie in blocks of their own, decoded when shown.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const ROW = 48; // height of a row of the list, as in page.css
const VIEWS = ["tables", "plots", "items"];
const SHOWS = {
  all: ["all", () => true],
  a_correct: ["A correct", (a) => a && a.correct],
  a_incorrect: ["A incorrect", (a) => a && !a.correct],
  a_unparsed: ["A unparsed", (a) => a && a.unparsed],
  changed: ["changed: correct in only one", (a, b) => a && b && a.correct !== b.correct],
  won: ["correct only in B", (a, b) => a && b && !a.correct && b.correct],
  lost: ["correct only in A", (a, b) => a && b && a.correct && !b.correct],
  both_incorrect: ["incorrect in both", (a, b) => a && b && !a.correct && !b.correct],
};
const NEEDS_B = new Set(["changed", "won", "lost", "both_incorrect"]);
const state = { benchmark: "", a: "", b: "", task: "", show: "all", find: "", item: "" };
let shown = []; // numbers of the items that pass the filters
let view = "tables";

// ---- reading the data

function answerOf(run, number) {
  const answer = run && run.answers[number];
  if (!answer) return null;
  const [score, answers, completions, images, note] = answer;
  const parsed = Array.isArray(answers) ? answers : [answers];
  return { score, correct: score === 1, unparsed: parsed.includes(null), parsed, completions, images: images || [], note: note || "" };
}
const runNamed = (name) => data.runs.find((run) => run.name === name);
const runsOf = (benchmark) => data.runs.filter((run) => run.benchmark === benchmark);

function markOf(answer) {
  if (!answer) return ["–", "", "no answer"];
  if (answer.correct) return ["✓", "correct", "correct"];
  if (answer.unparsed && answer.score === 0) return ["?", "unparsed", "unparsed, counted as incorrect"];
  return answer.score > 0 ? ["~", "unparsed", "partly correct, " + answer.score.toFixed(2)] : ["✗", "incorrect", "incorrect"];
}

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function mark(answer, words = false) {
  const [sign, kind, name] = markOf(answer);
  const made = element("span", { className: "mark " + kind, textContent: words ? sign + " " + name : sign });
  if (!words) made.setAttribute("aria-label", name);
  return made;
}

function image(number, words) {
  const made = element("img", { alt: words });
  const block = byId("image-" + number);
  if (block) made.src = block.dataset.type + block.textContent;
  else document.addEventListener("DOMContentLoaded", () => made.replaceWith(image(number, words)), { once: true });
  return made;
}

// ---- filters

function options(select, pairs, value) {
  select.replaceChildren(...pairs.map(([name, text]) => element("option", { value: name, textContent: text })));
  select.value = pairs.some(([name]) => name === value) ? value : pairs[0][0];
  return select.value;
}

function passing(show) {
  const a = runNamed(state.a), b = runNamed(state.b);
  const words = state.find.toLowerCase();
  const test = SHOWS[show][1];
  const passed = [];
  data.items.forEach((item, number) => {
    if (item.benchmark !== state.benchmark || (state.task && item.task !== state.task)) return;
    if (!(a && a.answers[number]) && !(b && b.answers[number])) return;
    if (words && !(item.id + " " + item.prompt).toLowerCase().includes(words)) return;
    if (test(answerOf(a, number), answerOf(b, number))) passed.push(number);
  });
  return passed;
}

function fillFilters() {
  const benchmarks = [...new Set(data.runs.map((run) => run.benchmark))];
  state.benchmark = options(byId("benchmark"), benchmarks.map((name) => [name, name]), state.benchmark);
  const runs = runsOf(state.benchmark).map((run) => [run.name, run.name]);
  state.a = options(byId("a"), runs, state.a);
  state.b = options(byId("b"), [["", "none"], ...runs], state.b);
  const tasks = [...new Set(data.items.filter((item) => item.benchmark === state.benchmark).map((item) => item.task))];
  state.task = options(byId("task"), [["", "all"], ...tasks.map((name) => [name, name])], state.task);
  const shows = Object.keys(SHOWS).filter((name) => state.b || !NEEDS_B.has(name));
  state.show = options(byId("show"), shows.map((name) => [name, `${SHOWS[name][0]} (${passing(name).length})`]), state.show);
  byId("find").value = state.find;
}

function filter() {
  fillFilters();
  shown = passing(state.show);
  if (!shown.some((number) => keyOf(number) === state.item)) state.item = shown.length ? keyOf(shown[0]) : "";
  byId("count").textContent = `${shown.length.toLocaleString("en")} of ${passing("all").length.toLocaleString("en")} items`;
  byId("rows").style.height = shown.length * ROW + "px";
  place();
}

// ---- the list: only visible rows are in the document

const keyOf = (number) => data.items[number].key;
const at = () => shown.findIndex((number) => keyOf(number) === state.item);

function drawRows() {
  const list = byId("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 5);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 5);
  const a = runNamed(state.a), b = runNamed(state.b);
  const rows = [];
  for (let place = first; place < last; place++) {
    const number = shown[place], item = data.items[number];
    const marks = [mark(answerOf(a, number))];
    if (b) marks.push(mark(answerOf(b, number)));
    const row = element("div", { className: "row", id: "row-" + number }, [
      ...marks, element("b", { textContent: item.task + " · " + item.id }),
      element("span", { className: "words", textContent: item.question }),
    ]);
    row.style.top = place * ROW + "px";
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", String(item.key === state.item));
    row.setAttribute("aria-posinset", place + 1);
    row.setAttribute("aria-setsize", shown.length);
    row.addEventListener("click", () => choose(place));
    rows.push(row);
  }
  byId("rows").replaceChildren(...rows);
  const chosen = at();
  if (chosen >= first && chosen < last) list.setAttribute("aria-activedescendant", "row-" + shown[chosen]);
  else list.removeAttribute("aria-activedescendant");
}

function place() {
  const list = byId("list"), top = Math.max(0, at()) * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  drawRows();
  drawItem();
  writeHash();
}

function choose(position) {
  if (!shown.length) return;
  state.item = keyOf(shown[Math.min(Math.max(position, 0), shown.length - 1)]);
  place();
}

// ---- one item

function answerCard(letter, run, item, number) {
  const answer = answerOf(run, number);
  const parts = [element("h3", { textContent: letter + ": " + run.name })];
  if (!answer) return element("section", { className: "answer" }, [...parts, element("p", { textContent: "has no answer to this item" })]);
  parts.push(mark(answer, true));
  parts.push(element("p", { className: "note", textContent: "parsed as " + answer.parsed.map((text) => text === null ? "nothing" : text).join(", ") }));
  answer.completions.forEach((text) => parts.push(element("pre", { textContent: text || "(empty)" })));
  if (answer.note) parts.push(element("p", { className: "note", textContent: answer.note }));
  if (answer.images.length)
    parts.push(element("div", { className: "images" }, answer.images.map((each) => image(each, "the image that it was shown"))));
  return element("section", { className: "answer" }, parts);
}

function drawItem() {
  const article = byId("item"), number = data.items.findIndex((item) => item.key === state.item);
  if (number < 0) return article.replaceChildren(element("p", { textContent: "No item passes the filters." }));
  const item = data.items[number], a = runNamed(state.a), b = runNamed(state.b);
  const parts = [element("h2", { textContent: `${item.task} · ${item.id}` })];
  const words = `Image of ${item.id}: ${item.question}`;
  if (item.images.length)
    parts.push(element("div", { className: item.images.length > 1 ? "images many" : "images" },
      item.images.map((each, place) => image(each, item.images.length > 1 ? `${words} (${place + 1})` : words))));
  if (item.note) parts.push(element("p", { className: "note warning", textContent: item.note }));
  parts.push(element("p", { className: "question", textContent: item.question }));
  if (item.choices)
    parts.push(element("ol", { className: "choices" }, item.choices.map((choice, place) =>
      element("li", { className: place === item.gold_choice ? "gold" : "", textContent: `(${String.fromCharCode(65 + place)}) ${choice}` + (place === item.gold_choice ? " ✓" : "") }))));
  parts.push(element("p", {}, ["Gold answer: ", element("strong", { textContent: item.gold })]));
  const cards = [answerCard("A", a, item, number)];
  if (b) cards.push(answerCard("B", b, item, number));
  parts.push(element("div", { className: "answers" }, cards));
  const others = runsOf(item.benchmark).filter((run) => run.answers[number]);
  if (others.length > 1)
    parts.push(element("details", { open: others.length <= 12 }, [
      element("summary", { textContent: `All ${others.length} runs with an answer` }),
      element("table", { className: "all" }, others.map((run) => {
        const answer = answerOf(run, number);
        return element("tr", {}, [
          element("td", {}, [mark(answer)]), element("th", { scope: "row", textContent: run.name }),
          element("td", { textContent: answer.parsed.map((text) => text === null ? "unparsed" : text).join(", ") }),
        ]);
      })),
    ]));
  parts.push(element("details", {}, [element("summary", { textContent: "Prompt" }), element("pre", { textContent: item.prompt })]));
  article.replaceChildren(...parts);
}

// ---- address and keys

function writeHash() {
  if (view !== "items") return;
  const kept = Object.entries(state).filter(([, value]) => value && value !== "all");
  history.replaceState(null, "", "#items?" + new URLSearchParams(kept));
}

function readHash() {
  const [name, query] = location.hash.slice(1).split("?");
  view = VIEWS.includes(name) ? name : "tables";
  for (const each of VIEWS) byId(each).hidden = each !== view;
  document.querySelectorAll("nav a").forEach((link) => {
    if (link.hash === "#" + view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  if (view !== "items" || !data.runs.length) return;
  if (query) for (const [key, value] of Object.entries({ ...emptyState, ...Object.fromEntries(new URLSearchParams(query)) })) if (key in state) state[key] = value;
  filter();
}
const emptyState = { ...state };

for (const name of ["benchmark", "a", "b", "task", "show"])
  byId(name).addEventListener("change", (event) => { state[name] = event.target.value; if (name === "benchmark") state.task = ""; filter(); });
byId("find").addEventListener("input", (event) => { state.find = event.target.value; filter(); });
document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
byId("previous").addEventListener("click", () => choose(at() - 1));
byId("next").addEventListener("click", () => choose(at() + 1));
byId("list").addEventListener("scroll", drawRows);
window.addEventListener("resize", () => view === "items" && drawRows());
window.addEventListener("hashchange", readHash);
document.addEventListener("keydown", (event) => {
  if (view !== "items" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("select, input")) {
    if (event.key === "Escape") byId("list").focus();
    return;
  }
  const moves = { j: at() + 1, ArrowDown: at() + 1, k: at() - 1, ArrowUp: at() - 1, Home: 0, End: shown.length - 1 };
  if (event.key in moves) choose(moves[event.key]);
  else if (event.key === "/") byId("find").focus();
  else return;
  event.preventDefault();
});
readHash();
