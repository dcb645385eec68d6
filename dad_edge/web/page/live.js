// Frames and states of the line in one answer of the server, read for as long as the page is open.

const HEADER = 8;

export function follow(look, handlers) {
  const stop = new AbortController();
  run(look, handlers, stop.signal);
  return () => stop.abort();
}

async function run(look, handlers, signal) {
  let wait = 500;
  while (!signal.aborted) {
    try {
      const answer = await fetch(`/live?look=${look}`, { signal });
      if (answer.status === 401) {
        location.assign("/login");
        return;
      }
      if (!answer.ok) throw new Error(`the line answered ${answer.status}`);
      handlers.connected(true);
      wait = 500;
      await read(answer.body.getReader(), handlers);
    } catch (error) {
      if (signal.aborted) return;
    }
    handlers.connected(false);
    await new Promise((done) => setTimeout(done, wait * (0.75 + Math.random() / 2)));
    wait = Math.min(2 * wait, 10000);
  }
}

async function read(reader, handlers) {
  let left = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    left = joined(left, value);
    for (;;) {
      if (left.length < HEADER) break;
      const lengths = new DataView(left.buffer, left.byteOffset, HEADER);
      const header = lengths.getUint32(0, true);
      const content = lengths.getUint32(4, true);
      const end = HEADER + header + content;
      if (left.length < end) break;
      const text = new TextDecoder().decode(left.subarray(HEADER, HEADER + header));
      const message = JSON.parse(text);
      handlers[message.message](message, left.slice(HEADER + header, end));
      left = left.subarray(end);
    }
  }
}

function joined(one, other) {
  if (!one.length) return other;
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

export async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "PUT",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const answer = await fetch(path, options);
  if (answer.status === 401) location.assign("/login");
  const content = await answer.json();
  if (!answer.ok) throw new Error([content.error, content.next].filter(Boolean).join(" "));
  return content;
}
