// A browser has six connections to a server for all its tabs, and a stream keeps one: so few tabs have a stream, and all others ask again and again.

const SEATS = 3;
const NAME = "whimbrel.stream.";
const RENEWED = 2000; // milliseconds between two signs of life of a tab that has a seat
const LEASE = 10_000; // without one for so long, a tab is gone
const tab = String(Math.random());

/**
 * A seat among the tabs of this browser. Returns { take, leave }: `take()` tells whether this tab has one now. `lost()`: called when another tab
 * has taken it, as after this one has slept.
 */
export function seat(lost) {
  let mine = "";
  let timer = 0;

  function take() {
    if (mine) return true;
    mine = names().find(isFree) ?? "";
    if (mine) {
      write(mine);
      timer = setInterval(renew, RENEWED);
    }
    return mine !== "";
  }

  function renew() {
    if (isFree(mine) || owner(mine) === tab) return write(mine);
    mine = "";
    clearInterval(timer);
    return lost();
  }

  function leave() {
    clearInterval(timer);
    if (mine && owner(mine) === tab) localStorage.removeItem(mine);
    mine = "";
  }

  return { take, leave };
}

function names() {
  return Array.from({ length: SEATS }, (_, number) => NAME + number);
}

function isFree(name) {
  const [, at] = read(name);
  return !(Math.abs(Date.now() - Number(at)) < LEASE);
}

function owner(name) {
  return read(name)[0];
}

function read(name) {
  try {
    return (localStorage.getItem(name) ?? "").split(" ");
  } catch {
    return []; // nothing can be kept here: then tabs do not know of one another
  }
}

function write(name) {
  try {
    localStorage.setItem(name, `${tab} ${Date.now()}`);
  } catch {
    // as above
  }
}
