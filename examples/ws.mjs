#!/usr/bin/env node
// Follows the events, one JSON text a line, and misses none when the connection breaks.
// Needs Node 22; or Node 20.10 with --experimental-websocket; or the package `ws`.
//
//     ws.mjs ws://127.0.0.1:8006/consensus        from now on
//     ws.mjs ws://127.0.0.1:8006/consensus 0.0    from the beginning

import { createRequire } from 'node:module';

const WebSocket = globalThis.WebSocket ?? createRequire(import.meta.url)('ws');
const [url = 'ws://127.0.0.1:8006/consensus', from] = process.argv.slice(2);
const GONE = 4410;
let next = from;

function follow() {
  const socket = new WebSocket(next ? `${url}?from=${next}` : url);
  socket.onopen = () => console.error(`connected to ${url}`);
  socket.onmessage = ({ data }) => {
    const { index, ordinal } = JSON.parse(data);
    // `from` is inclusive, so the next connection begins behind this event.
    next = `${index}.${ordinal + 1}`;
    console.log(data);
  };
  // Node 20 tells a failed connection only by an error, a broken one by both.
  let retry = () => {
    retry = () => {};
    setTimeout(follow, 1000);
  };
  socket.onerror = () => {
    console.error(`${url} cannot be reached`);
    retry();
  };
  socket.onclose = ({ code, reason }) => {
    console.error(`closed with ${code} ${reason}`);
    if (code === GONE) {
      process.exit(1);
    }
    retry();
  };
}

follow();
