// A page that could not be shown: asks again until it can.

const EVERY = 2000; // milliseconds

async function again() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.status !== 503 && answer.status !== 429) {
      location.reload();
      return;
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const now = page.querySelector(".error p:not(.code):not(.muted)");
    const shown = document.querySelector(".error p:not(.code):not(.muted)");
    if (now && shown && now.textContent !== shown.textContent) shown.textContent = now.textContent;
  } catch {
    // the server itself is away: ask again
  }
  setTimeout(again, EVERY);
}

setTimeout(again, EVERY);
