#!/bin/sh
# Casts a ballot. Needs openssl (3.0 or newer) and curl.
#
#     vote.sh http://127.0.0.1:8003 prop_1 demo-1 demo-1.pem for
set -eu

[ $# -eq 5 ] || { echo "vote.sh ENDPOINT PROPOSAL AGENT KEY.PEM for|against|abstain" >&2; exit 2; }
api=$1/api/v1/consensus proposal=$2 agent=$3 key=$4 choice=$5

b64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

# The key's name is its RFC 7638 thumbprint. A public key's DER ends in its 32 bytes.
x=$(openssl pkey -in "$key" -pubout -outform DER | tail -c 32 | b64url)
kid=$(printf '{"crv":"Ed25519","kty":"OKP","x":"%s"}' "$x" | openssl dgst -sha256 -binary | b64url)

# What is signed: the ballot form without its last brace, and what the voter adds.
form=$(curl -sS --fail-with-body "$api/proposals/$proposal/ballot") || { echo "$form" >&2; exit 1; }
claims=$(printf '%s,"sub":"%s","choice":"%s","confidence":"0.9","jti":"%s","iat":%s}' \
    "${form%\}}" "$agent" "$choice" "$(openssl rand -hex 16)" "$(date +%s)")
header=$(printf '{"alg":"EdDSA","typ":"aegis-vote+jws","kid":"%s"}' "$kid")
signed=$(printf %s "$header" | b64url).$(printf %s "$claims" | b64url)

# openssl signs Ed25519 only from a file.
message=$(mktemp)
trap 'rm -f "$message"' EXIT
printf %s "$signed" >"$message"
signature=$signed.$(openssl pkeyutl -sign -rawin -inkey "$key" -in "$message" | b64url)

curl -sS --fail-with-body -H 'Content-Type: application/json' "$api/votes" --data \
    "{\"proposal_id\":\"$proposal\",\"vote\":\"$choice\",\"confidence\":0.9,\"signature\":\"$signature\"}"
echo
