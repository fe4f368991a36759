// The queues: kept up to date; consumers are stopped and started, dead failures tried again, a queue is emptied.

import { act, answerPlace, report } from "./actions.js";
import { number } from "./formats.js";
import { liveParts } from "./live.js";

const page = liveParts(["queues", "dead"], { every: 2000 });
const replay = document.getElementById("replay-form");
const purge = document.getElementById("purge-form");
const asked = {
  stop: { title: "Stop all consumers?", text: "No worker of the whole cluster takes a batch until somebody starts them again. Batches in hand are finished.", word: "Stop them", danger: true },
};

document.addEventListener("click", (event) => {
  const consumers = event.target.closest("[data-consumers]");
  if (consumers) {
    const what = consumers.dataset.consumers;
    act(consumers, {
      path: `/queue/consumers/${what}`, confirm: asked[what] ?? null, done: page.now,
      said: (answer) => what === "restart" ? `${answer.drained ? "Nobody held a batch any more" : "Somebody still held a batch"}; consumers are ${answer.consumers}.`
        : `Consumers are ${answer.consumers}${answer.changed ? "" : ", and were before"}; ${number(answer.inHand)} batches are in hand.`,
    });
  }
  const test = event.target.closest("[data-test]");
  if (test) act(test, { path: "/queue/test-publish", said: (answer) => `It went ${answer.way} in ${number(answer.roundTripMs)} ms.` });
});

replay?.addEventListener("submit", (event) => {
  event.preventDefault();
  const limit = Number(replay.elements.limit.value);
  act(replay.querySelector("button"), {
    path: `/queue/retry-dlq?limit=${limit}`, done: page.now,
    said: (answer) => {
      const runs = Object.entries(answer.migrations).map(([run, count]) => `${run}: ${number(count)}`).join(", ");
      const skipped = answer.skipped.map((each) => `${each.migrationId} stays: ${each.reason}`).join(" ");
      return `${number(answer.retriedCount)} dead failures are tried again${runs ? ` (${runs})` : ""}. ${skipped}`.trim();
    },
  });
});

purge?.addEventListener("submit", (event) => {
  event.preventDefault();
  const button = purge.querySelector("button");
  const { queue, confirm } = purge.elements;
  if (confirm.value.trim() !== queue.value) {
    report(answerPlace(button), `Write ${queue.value} to confirm. Nothing was removed.`, "bad");
    return;
  }
  act(button, {
    method: "DELETE", path: `/queue/purge/${encodeURIComponent(queue.value)}`, done: page.now,
    said: (answer) => `${number(answer.purgedMessages)} messages were removed from ${answer.queue}. ${answer.message}`,
  });
});
