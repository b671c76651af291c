#!/usr/bin/env python3
"""Verifies a decision's certificate offline. Needs the package `cryptography` and nothing else.

    verify_certificate.py CERTIFICATE GENESIS.json [CERTIFICATE OF A LATER COMMITTEE...]

It is written from docs/certificates.md alone and shares no code with Aegis. The genesis
document must come from someone you trust: its SHA-256 is the cluster's id.
"""

import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.aegis.decision.v1+json"
IDENTITY = bytes([1]) + bytes(31)


def require(holds: bool, why: str) -> None:
    if not holds:
        sys.exit(f"not valid: {why}")


def once(pairs: list) -> dict:
    require(len({name for name, _ in pairs}) == len(pairs), "a member occurs twice")
    return dict(pairs)


def no_number(text: str):
    sys.exit(f"not valid: the JSON number {text}; numbers are strings here")


def canonical(data: bytes) -> dict:
    """Reads JSON that must be in its canonical form (RFC 8785)."""
    try:
        value = json.loads(data, object_pairs_hook=once, parse_int=no_number, parse_float=no_number)
    except ValueError as error:
        sys.exit(f"not valid: {error}")
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    require(text.encode() == data, "it is not in its canonical form")
    return value


def number(text: str) -> int:
    require(text.isascii() and text.isdigit() and str(int(text)) == text, f"{text} is no number")
    return int(text)


def base64_strict(text: str) -> bytes:
    data = base64.b64decode(text, validate=True)
    require(base64.b64encode(data).decode() == text, "base64 in another spelling")
    return data


def key_of(jwk: dict) -> tuple[str, Ed25519PublicKey]:
    """A key with its RFC 7638 thumbprint. Seats hold keys of prime order alone, which the
    cluster has checked when it took them in."""
    thumbprint = f'{{"crv":"Ed25519","kty":"OKP","x":"{jwk["x"]}"}}'
    digest = hashlib.sha256(thumbprint.encode()).digest()
    raw = base64.urlsafe_b64decode(jwk["x"] + "=")
    kid = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return kid, Ed25519PublicKey.from_public_bytes(raw)


def verify(envelope: bytes, cluster: str, committees: list[dict]) -> dict:
    members = canonical(envelope)
    require(set(members) == {"payload", "payloadType", "signatures"}, "other members")
    require(members["payloadType"] == PAYLOAD_TYPE, "another payloadType")
    payload = base64_strict(members["payload"])
    agreed = canonical(payload)
    require(set(agreed) == {"epoch", "sequence", "statement", "view"}, "other members")
    epoch = number(agreed["epoch"])
    require(epoch < len(committees), f"the committee of epoch {epoch} is not known")
    seats = [key_of(seat["public_key"]) for seat in committees[epoch]["seats"]]
    places = {kid: place for place, (kid, _) in enumerate(seats)}

    n = len(seats)
    f = (n - 1) // 3
    quorum = (n + f) // 2 + 1
    signatures = members["signatures"]
    require(len(signatures) == quorum, f"{len(signatures)} signatures, a quorum is {quorum}")
    signed = b"DSSEv1 %d %s %d " % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload)) + payload
    last = -1
    for signature in signatures:
        require(set(signature) == {"keyid", "sig"}, "other members")
        place = places.get(signature["keyid"], -1)
        require(place > last, f"{signature['keyid']} sits in no seat, or not in its place")
        last = place
        raw = base64_strict(signature["sig"])
        require(not raw.startswith(IDENTITY), "a signature's point is the identity")
        try:
            seats[place][1].verify(raw, signed)
        except InvalidSignature:
            sys.exit(f"not valid: the signature of seat {place} does not verify")

    statement = agreed["statement"]
    ordinal = number(statement["ordinal"])
    require(statement["version"] == "1", "another version")
    require(statement["cluster"] == cluster, f"a decision of cluster {statement['cluster']}")
    require(agreed["sequence"] == statement["ordinal"], "another closing's sequence number")
    later = committees[epoch + 1]["since"] if epoch + 1 < len(committees) else ordinal + 1
    require(committees[epoch]["since"] <= ordinal < later, f"closing {ordinal} is not of epoch {epoch}")
    return statement


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    files = []
    for path in sys.argv[1:]:
        with open(path, "rb") as file:
            files.append(file.read())
    certificate, genesis, *later = files
    cluster = hashlib.sha256(genesis).hexdigest()
    committees = [{"since": 1, "seats": json.loads(genesis)["committee"]}]
    require(bool(committees[0]["seats"]), "the genesis document names no committee")
    for envelope in later:
        decided = verify(envelope.removesuffix(b"\n"), cluster, committees)
        following = decided.get("next_committee", {})
        require(following.get("epoch") == str(len(committees)), "it does not decide the next committee")
        committees.append({"since": int(decided["ordinal"]) + 1, "seats": following["seats"]})
    statement = verify(certificate.removesuffix(b"\n"), cluster, committees)
    print(json.dumps(statement, indent=2))


main()
