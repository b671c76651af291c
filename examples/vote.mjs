#!/usr/bin/env node
// Casts a ballot. Needs Node 18 or newer and no package.
//
//     vote.mjs http://127.0.0.1:8003 prop_1 demo-1 demo-1.pem for

import { createHash, createPrivateKey, createPublicKey, randomUUID, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';

const [endpoint, proposal, agent, keyFile, choice] = process.argv.slice(2);
if (!choice) {
  console.error('vote.mjs ENDPOINT PROPOSAL AGENT KEY.PEM for|against|abstain');
  process.exit(2);
}
const api = `${endpoint}/api/v1/consensus`;
const b64url = (data) => Buffer.from(data).toString('base64url');

async function call(url, body) {
  const answer = await fetch(url, body && {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const read = await answer.json();
  if (!answer.ok) {
    console.error(`${read.code}: ${read.detail}`);
    process.exit(1);
  }
  return read;
}

// The key's name is its RFC 7638 thumbprint.
const key = createPrivateKey(readFileSync(keyFile));
const { crv, kty, x } = createPublicKey(key).export({ format: 'jwk' });
const kid = createHash('sha256').update(JSON.stringify({ crv, kty, x })).digest('base64url');

// What is signed: the ballot form, and what the voter adds.
const claims = {
  ...(await call(`${api}/proposals/${proposal}/ballot`)),
  sub: agent,
  choice,
  confidence: '0.9',
  jti: randomUUID(),
  iat: Math.floor(Date.now() / 1000),
};
const header = { alg: 'EdDSA', typ: 'aegis-vote+jws', kid };
const signed = [header, claims].map((part) => b64url(JSON.stringify(part))).join('.');
const signature = `${signed}.${b64url(sign(null, Buffer.from(signed), key))}`;

const ballot = { proposal_id: proposal, vote: choice, confidence: 0.9, signature };
console.log(JSON.stringify(await call(`${api}/votes`, ballot)));
