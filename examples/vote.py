#!/usr/bin/env python3
"""Casts a ballot. Needs the package `cryptography` and nothing else.

    vote.py http://127.0.0.1:8003 prop_1 demo-1 demo-1.pem for
"""

import base64
import hashlib
import json
import sys
import time
import urllib.error
import urllib.request
import uuid

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def call(url: str, body: dict | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        problem = json.load(error)
        sys.exit(f"{problem['code']}: {problem['detail']}")


if len(sys.argv) != 6:
    sys.exit(__doc__)
endpoint, proposal, agent, key_file, choice = sys.argv[1:]
api = f"{endpoint}/api/v1/consensus"
with open(key_file, "rb") as file:
    key = load_pem_private_key(file.read(), password=None)

# The key's name is its RFC 7638 thumbprint.
x = b64url(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'
kid = b64url(hashlib.sha256(jwk.encode()).digest())

# What is signed: the ballot form, and what the voter adds.
claims = call(f"{api}/proposals/{proposal}/ballot") | {
    "sub": agent,
    "choice": choice,
    "confidence": "0.9",
    "jti": str(uuid.uuid4()),
    "iat": int(time.time()),
}
header = {"alg": "EdDSA", "typ": "aegis-vote+jws", "kid": kid}
signed = ".".join(b64url(json.dumps(part).encode()) for part in (header, claims))
signature = f"{signed}.{b64url(key.sign(signed.encode()))}"

ballot = {"proposal_id": proposal, "vote": choice, "confidence": 0.9, "signature": signature}
print(json.dumps(call(f"{api}/votes", ballot)))
