//! Tokens: made, listed, revoked, and recognised. What is stored is a keyed digest of each one's text.

use std::{sync::atomic::Ordering, time::Duration};

use crate::{
    model::{
        Problem, ProblemCode,
        token::{TOKEN_BYTES, Token, TokenScope, check_owner, token_text},
    },
    store::Write,
};

use super::{Ledger, LedgerError, keys};

/// Most tokens at a time.
const TOKENS_MAX: usize = 10_000;
/// Characters of the digest that a token is called by.
const ID_LEN: usize = 12;
/// Longest life of a token that ends.
const LIFE_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What is wrong with a text that was shown as a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// There is none of that text, or it was revoked.
    #[error("no such token; `staccato token create` on the service's host makes one")]
    Unknown,
    /// It has expired.
    #[error("the token has expired; `staccato token create` on the service's host makes a new one")]
    Expired,
}

impl Ledger {
    /// Makes a token, which lasts for `life` or for ever. Its text is in the answer only.
    pub async fn create_token(
        &self,
        owner: &str,
        scope: TokenScope,
        life: Option<Duration>,
    ) -> Result<(Token, String), LedgerError> {
        check_owner(owner).map_err(|why| Problem::invalid("owner", why))?;
        if life.is_some_and(|life| life.is_zero() || life > LIFE_MAX) {
            return Err(
                Problem::invalid("expires_in_seconds", "a token lasts 1 second to 100 years, or for ever").into()
            );
        }
        let _turn = self.inner.tokens_turn.lock().await;
        if self.tokens().await?.len() >= TOKENS_MAX {
            let detail = format!("there are {TOKENS_MAX} tokens; revoke some (`staccato token list` shows them)");
            return Err(Problem::new(ProblemCode::Forbidden, detail).into());
        }
        let mut random = [0; TOKEN_BYTES];
        for piece in random.as_chunks_mut::<8>().0 {
            *piece = self.inner.environment.random().to_le_bytes();
        }
        let text = token_text(random);
        let digest = self.token_digest(&text);
        let created_at = self.inner.environment.now();
        let expires_at = life.map(|life| created_at.after(life));
        let token = Token { id: digest[..ID_LEN].to_owned(), owner: owner.to_owned(), scope, created_at, expires_at };
        let value = serde_json::to_vec(&token).expect("strings and numbers");
        // Before it counts: whoever is cut off here leaves too little open, not too much.
        self.inner.has_tokens.store(true, Ordering::Relaxed);
        self.write(vec![Write::Put(keys::token(&digest), value)]).await?;
        Ok((token, text))
    }

    /// All tokens, expired ones included, in the order of their making.
    pub async fn tokens(&self) -> Result<Vec<Token>, LedgerError> {
        let found = self.inner.store.range(keys::TOKENS, &keys::end_of(keys::TOKENS), TOKENS_MAX, false).await?;
        let mut tokens = Vec::with_capacity(found.len());
        for (key, record) in found {
            let parsed = serde_json::from_slice(&record.value).map_err(|error| LedgerError::unreadable(&key, error));
            tokens.extend(self.skip_unreadable(parsed.map(Some), None)?);
        }
        tokens.sort_by_key(|token: &Token| token.created_at);
        Ok(tokens)
    }

    /// Makes a token nothing, by its id. Requests that show it from now on are refused.
    pub async fn revoke_token(&self, id: &str) -> Result<(), LedgerError> {
        let missing = || Problem::new(ProblemCode::TokenNotFound, format!("there is no token {id:?}"));
        if id.len() != ID_LEN || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(missing().into());
        }
        let _turn = self.inner.tokens_turn.lock().await;
        let start = keys::token(id);
        let found = self.inner.store.range(&start, &keys::end_of(&start), 1, false).await?;
        let (key, _) = found.into_iter().next().ok_or_else(missing)?;
        self.write(vec![Write::Delete(key)]).await?;
        self.load_tokens().await
    }

    /// The token of this text.
    pub async fn token(&self, text: &str) -> Result<Result<Token, TokenRefused>, LedgerError> {
        let key = keys::token(&self.token_digest(text));
        let Some(found) = self.inner.store.get(&key).await? else { return Ok(Err(TokenRefused::Unknown)) };
        let token: Token =
            serde_json::from_slice(&found.value).map_err(|error| LedgerError::unreadable(&key, error))?;
        let expired = token.is_expired(self.inner.environment.now());
        Ok(if expired { Err(TokenRefused::Expired) } else { Ok(token) })
    }

    /// Whether there are tokens: then users without one have only what is bound to them.
    pub fn has_tokens(&self) -> bool {
        self.inner.has_tokens.load(Ordering::Relaxed)
    }

    pub(super) async fn load_tokens(&self) -> Result<(), LedgerError> {
        let found = self.inner.store.range(keys::TOKENS, &keys::end_of(keys::TOKENS), 1, false).await?;
        self.inner.has_tokens.store(!found.is_empty(), Ordering::Relaxed);
        Ok(())
    }

    fn token_digest(&self, text: &str) -> String {
        self.inner.seal.digest("token", &[text])
    }
}
