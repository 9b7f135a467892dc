/* ---------- all pictures, a search over their captions, and the way to each ---------- */

const many = data.items.length > 1;

// The words of a caption, by place, that begin with one of the words asked for; null unless each
// of those is found.
function matches(item, query) {
  const asked = query.toLowerCase().split(/\s+/).filter(Boolean);
  const words = item.words.map((word) => word.toLowerCase());
  if (!asked.every((part) => words.some((word) => word.startsWith(part)))) return null;
  return new Set([...words.keys()].filter((i) => asked.some((part) => words[i].startsWith(part))));
}

function card(item, number) {
  const caption = make("strong"), link = make("a", { href: address(number, 0) },
    make("img", { src: item.picture, alt: "" }), caption, make("small", {}, item.name));
  const entry = make("li", {}, link);
  return { entry, search(query) {
    const found = matches(item, query);
    entry.hidden = !found;
    if (!found) return false;
    caption.replaceChildren(...item.words.flatMap((word, i) =>
      [found.has(i) ? make("mark", {}, word) : word, " "]));
    if (!item.words.length) caption.textContent = "(a caption without words)";
    link.href = address(number, Math.min(...found, item.words.length - 1));
    return true;
  } };
}

function search(cards) {
  const found = cards.filter((card) => card.search($("query").value)).length;
  $("found").textContent = `${found === cards.length ? "" : `${found} of `}${cards.length} pictures`;
}

function address(number, word) {
  return many ? `#image=${number + 1}&word=${word + 1}` : `#word=${word + 1}`;
}

// What the page's address asks for: a picture, or where there are several, all of them.
function route() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const number = many ? Number(asked.get("image")) - 1 : 0, item = data.items[number];
  const word = (Number(asked.get("word")) || 1) - 1, before = walk?.number;
  $("gallery").hidden = Boolean(item);
  $("walk").hidden = !item;
  if (item && number === before) return walk.choose(word);
  walk?.leave();
  walk = null;
  if (item) enter(item, number, word);
  else {
    document.title = title;
    $("cards").children[before]?.firstChild.focus();
  }
}

function enter(item, number, word) {
  $("picture").onload = () => {
    walk = { number, ...show(item, number) };
    walk.choose(word);
    if (!many) return;
    scrollTo(0, 0);
    $("words").querySelector("[tabindex='0']")?.focus({ preventScroll: true });
  };
  $("picture").src = item.picture;
  if (!many) return;
  document.title = item.text;
  const way = (text, to) => make("a", { href: to < 0 ? "#" : address(to, 0) }, text);
  const ways = [way("All pictures", -1)];
  if (number > 0) ways.push(way("Previous", number - 1));
  if (number < data.items.length - 1) ways.push(way("Next", number + 1));
  $("around").replaceChildren(...ways);
}

let walk = null; // the picture being walked through: its number, and what show() returned
const title = document.title;
if (many) {
  const cards = data.items.map(card);
  $("cards").replaceChildren(...cards.map(({ entry }) => entry));
  $("query").addEventListener("input", () => search(cards));
  search(cards);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && walk) location.hash = "";
    else if (event.key === "/" && !walk && event.target !== $("query")) {
      $("query").focus();
      event.preventDefault();
    }
  });
}
addEventListener("hashchange", route);
route();
