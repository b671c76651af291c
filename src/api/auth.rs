//! Who asks: bearer tokens, and what they open.
//!
//! The administrator's token is known by its SHA-256 alone. An agent's token is
//! `aegis_<number>_<secret>`: the number finds its record, whose digest is compared with
//! the secret's. Both comparisons take the same time wherever the texts differ.

use aegis_crypto::Digest;
use aegis_ledger::{AgentId, Principal, Standing, TokenNo, query};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq as _;

use crate::edge::Edge;
use crate::governance::{Consistency, View};
use crate::problem::Problem;
use crate::server::call::Call;

/// The longest token.
const TOKEN_BYTES_MAX: usize = 256;
/// The secret part of an agent's token.
const SECRET_BYTES: usize = 32;

/// A secret that is told once.
pub(crate) struct TokenSecret([u8; SECRET_BYTES]);

impl TokenSecret {
    /// Draws one.
    pub(crate) fn draw() -> Result<Self, getrandom::Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        Ok(Self(secret))
    }

    /// What the ledger keeps of it.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.0)
    }

    /// The token as its bearer sends it.
    pub(crate) fn token(&self, no: TokenNo) -> String {
        format!("aegis_{}_{}", no.0, URL_SAFE_NO_PAD.encode(self.0))
    }

    fn parse(token: &str) -> Option<(TokenNo, Self)> {
        let (no, secret) = token.strip_prefix("aegis_")?.split_once('_')?;
        let secret = URL_SAFE_NO_PAD.decode(secret).ok()?;
        let no = format!("tok_{no}").parse().ok()?;
        Some((no, Self(secret.try_into().ok()?)))
    }
}

/// The token of a request, if it has one.
fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| (1..=TOKEN_BYTES_MAX).contains(&token.len()));
    match token {
        Some(token) => Ok(Some(token)),
        None => Err(Problem::unauthenticated(
            "send the token as `Authorization: Bearer <token>`",
        )),
    }
}

fn unknown_token() -> Problem {
    Problem::unauthenticated(
        "the token is unknown or was ended; ask the administrator for one with POST /tokens",
    )
}

fn same(one: &Digest, other: &Digest) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

impl Edge {
    /// Whoever bears the request's token, if it has one; a token that does not hold is
    /// refused wherever it is looked at.
    pub(crate) async fn bearer(&self, call: &Call) -> Result<Option<Principal>, Problem> {
        let Some(token) = bearer_token(&call.head.headers)? else {
            return Ok(None);
        };
        let principal = if self.is_administrators(token) {
            Principal::Administrator
        } else {
            // A token that was just issued or ended on another node counts here as well.
            let view = self.governance.view(Consistency::Linearizable).await?;
            Principal::Agent(agent_of(&view, token)?)
        };
        call.note(&principal);
        Ok(Some(principal))
    }

    /// Whoever bears the request's token, which it must have.
    pub(crate) async fn require_bearer(&self, call: &Call) -> Result<Principal, Problem> {
        self.bearer(call).await?.ok_or_else(|| {
            Problem::unauthenticated("this needs a token: `Authorization: Bearer <token>`")
        })
    }

    /// The request must bear the administrator's token.
    pub(crate) async fn require_administrator(&self, call: &Call) -> Result<Principal, Problem> {
        match self.require_bearer(call).await? {
            Principal::Administrator => Ok(Principal::Administrator),
            _ => Err(Problem::forbidden(
                "this needs the administrator's token, which `aegis init` made",
            )),
        }
    }

    /// Reads are open unless the operator asks for a token.
    pub(crate) fn check_may_read(&self, call: &Call, view: &View) -> Result<(), Problem> {
        if !self.settings.reads_need_token {
            return Ok(());
        }
        let principal = self.reader(&call.head.headers, view)?;
        call.note(&principal);
        Ok(())
    }

    /// Whoever reads, where reads need a token.
    pub(crate) fn reader(&self, headers: &HeaderMap, view: &View) -> Result<Principal, Problem> {
        let token = bearer_token(headers)?.ok_or_else(|| {
            Problem::unauthenticated("reads need a token here: `Authorization: Bearer <token>`")
        })?;
        if self.is_administrators(token) {
            Ok(Principal::Administrator)
        } else {
            agent_of(view, token).map(Principal::Agent)
        }
    }

    fn is_administrators(&self, token: &str) -> bool {
        same(&Digest::of(token), &self.settings.admin_token_sha256)
    }
}

/// The agent that a token was issued to, if the token and the agent are still good.
fn agent_of(view: &View, token: &str) -> Result<AgentId, Problem> {
    let (no, secret) = TokenSecret::parse(token).ok_or_else(unknown_token)?;
    let record = query::token(&*view.archive, no)?
        .filter(|record| same(&record.secret, &secret.digest()))
        .filter(|record| record.revoked_at.is_none())
        .ok_or_else(unknown_token)?;
    let agent = query::agent(&*view.archive, &record.agent)?
        .filter(|agent| agent.standing == Standing::Active)
        .ok_or_else(|| Problem::unauthenticated("the token's agent was removed"))?;
    Ok(agent.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_one_text() {
        let secret = TokenSecret::draw().unwrap();
        let token = secret.token(TokenNo(17));
        let (no, parsed) = TokenSecret::parse(&token).unwrap();
        assert_eq!((no, parsed.digest()), (TokenNo(17), secret.digest()));
        let encoded = URL_SAFE_NO_PAD.encode(secret.0);
        for text in [
            "",
            "aegis",
            "aegis_17",
            "aegis_17_",
            &format!("aegis_017_{encoded}"),
            &format!("aegis_17_{encoded}A"),
            &format!("aegis_17_{encoded}="),
            &format!("aegis_17_{}", &encoded[1..]),
            &format!("egis_17_{encoded}"),
        ] {
            assert!(TokenSecret::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_header_is_read_leniently_in_case_alone() {
        let parse = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, http::HeaderValue::from_static(value));
            bearer_token(&headers).map(|token| token.unwrap().to_owned())
        };
        assert_eq!(parse("Bearer abc").unwrap(), "abc");
        assert_eq!(parse("bearer abc").unwrap(), "abc");
        for value in ["Basic abc", "Bearer", "Bearer ", "abc"] {
            assert_eq!(
                parse(value).unwrap_err().code(),
                "unauthenticated",
                "{value}"
            );
        }
        assert!(bearer_token(&HeaderMap::new()).unwrap().is_none());
    }
}
