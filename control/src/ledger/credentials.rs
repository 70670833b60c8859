//! Named credentials: set, shown, deleted, found, and put in the place of their names. Those in the store are sealed, each
//! bound to its owner, its name and what it is for.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use staccato_protocols::{ObjectUrl, Options, contract::CREDENTIAL};

use crate::{
    model::{
        Problem, ProblemCode, Timestamp,
        credential::{Credential, CredentialName, Definition, Kept, Unusable, UrlPrefix},
        token::check_owner,
    },
    store::Write,
};

use super::{Ledger, LedgerError, Scope, keys};

/// Most credentials of one owner in the store; everybody's count as one owner's.
const OF_OWNER_MAX: usize = 100;
/// Most credentials in the store.
const CREDENTIALS_MAX: usize = 1_000;

/// What of a credential in the store is not sealed. Its bytes are what the sealed values are bound to: who changes one of
/// them in the store opens nothing.
#[derive(Serialize, Deserialize)]
struct Head {
    owner: Option<String>,
    name: CredentialName,
    schemes: Vec<String>,
    urls: Vec<UrlPrefix>,
    /// Names of options; their values are sealed.
    options: Vec<String>,
    changed_at: Timestamp,
}

/// The credentials that a submission names, as its owner may use them.
#[derive(Clone, Debug, Default)]
pub struct NamedCredentials(Vec<(String, Result<Credential, Unusable>)>);

impl NamedCredentials {
    /// The credential of a name that was in the submission.
    pub fn find(&self, name: &str) -> Result<&Credential, Unusable> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or_else(|| Err(Unusable::unknown(name)), |(_, found)| found.as_ref().map_err(Clone::clone))
    }
}

impl Ledger {
    /// Sets a credential of `owner` (none: everybody's); whether there was none of this name before.
    pub async fn set_credential(
        &self,
        owner: Option<&str>,
        name: CredentialName,
        definition: Definition,
    ) -> Result<(Credential, bool), LedgerError> {
        owner.map_or(Ok(()), check_owner).map_err(|why| Problem::invalid("owner", why))?;
        definition.check(&self.inner.registry)?;
        let key = keys::credential(owner, &name);
        let _turn = self.inner.credentials_turn.lock().await;
        let made = self.inner.store.get(&key).await?.is_none();
        if made {
            self.check_room_for_credential(owner).await?;
        }
        let changed_at = self.inner.environment.now();
        let head = Head {
            owner: owner.map(str::to_owned),
            name: name.clone(),
            schemes: definition.schemes.clone(),
            urls: definition.urls.clone(),
            options: definition.options.keys().cloned().collect(),
            changed_at,
        };
        let mut value = serde_json::to_vec(&head).expect("strings and a time");
        let sealed = self.inner.seal.seal_credential(&value, &definition.options);
        value.push(b'\n');
        value.extend(sealed);
        self.write(vec![Write::Put(key, value)]).await?;
        let owner = owner.map(str::to_owned);
        Ok((Credential { name, owner, kept: Kept::Sealed, definition, changed_at: Some(changed_at) }, made))
    }

    async fn check_room_for_credential(&self, owner: Option<&str>) -> Result<(), LedgerError> {
        for (prefix, max) in
            [(keys::credentials_of(owner), OF_OWNER_MAX), (keys::CREDENTIALS.to_vec(), CREDENTIALS_MAX)]
        {
            if self.inner.store.range(&prefix, &keys::end_of(&prefix), max, false).await?.len() == max {
                let detail =
                    format!("there are {max} credentials; delete some (`staccato credential list` shows them)");
                return Err(Problem::new(ProblemCode::Forbidden, detail).into());
            }
        }
        Ok(())
    }

    /// Forgets a credential of `owner` (none: everybody's) in the store. Attempts that need it fail from now on.
    pub async fn delete_credential(&self, owner: Option<&str>, name: &str) -> Result<(), LedgerError> {
        let missing = || no_credential(name, "in the store");
        let name: CredentialName = name.parse().map_err(|_| missing())?;
        let key = keys::credential(owner, &name);
        let _turn = self.inner.credentials_turn.lock().await;
        self.inner.store.get(&key).await?.ok_or_else(missing)?;
        self.write(vec![Write::Delete(key)]).await
    }

    /// The credentials that `scope` sees, wherever they are kept, in the order of their names: an owner's own and
    /// everybody's.
    pub async fn credentials(&self, scope: &Scope) -> Result<Vec<Credential>, LedgerError> {
        let mut seen = Vec::new();
        for (key, record) in
            self.inner.store.range(keys::CREDENTIALS, &keys::end_of(keys::CREDENTIALS), CREDENTIALS_MAX, false).await?
        {
            // Whether its values open is found out when it is used.
            let read = self.skip_unreadable(read_head(&key, &record.value).map(Some), None)?;
            seen.extend(read.map(|(head, _)| head.credential(Options::new())));
        }
        seen.extend(self.inner.config.credentials.all().await);
        seen.retain(|credential| match scope {
            Scope::All => true,
            Scope::Owner(owner) => credential.is_for(owner),
        });
        seen.sort_by(|one, other| (&one.name, &one.owner).cmp(&(&other.name, &other.owner)));
        Ok(seen)
    }

    /// What `owner` means by `name`: its own in the store, else everybody's there, else what the operator keeps in a file,
    /// else in the environment.
    pub async fn find_credential(
        &self,
        name: &CredentialName,
        owner: &str,
    ) -> Result<Option<Result<Credential, Unusable>>, LedgerError> {
        for of in [Some(owner), None] {
            if let Some(found) = self.stored_credential(of, name).await? {
                return Ok(Some(found));
            }
        }
        Ok(self.inner.config.credentials.find(name, owner).await.transpose())
    }

    async fn usable_credential(&self, name: &str, owner: &str) -> Result<Result<Credential, Unusable>, LedgerError> {
        let Ok(parsed) = name.parse() else { return Ok(Err(Unusable::unknown(name))) };
        Ok(self.find_credential(&parsed, owner).await?.unwrap_or_else(|| Err(Unusable::unknown(name))))
    }

    /// A credential of `owner` (none: everybody's) in the store.
    pub async fn stored_credential(
        &self,
        owner: Option<&str>,
        name: &CredentialName,
    ) -> Result<Option<Result<Credential, Unusable>>, LedgerError> {
        let key = keys::credential(owner, name);
        let Some(record) = self.inner.store.get(&key).await? else { return Ok(None) };
        let (head, sealed) = read_head(&key, &record.value)?;
        let bound = &record.value[..record.value.len() - sealed.len() - 1];
        let opened = self.inner.seal.unseal_credential(bound, sealed);
        let options = opened.map_err(|error| Unusable::fatal(format!("the credential {name} cannot be used: {error}")));
        Ok(Some(options.map(|options| head.credential(options))))
    }

    /// The credentials that the body of a submission names.
    pub async fn named_credentials(&self, body: &Value, owner: &str) -> Result<NamedCredentials, LedgerError> {
        let mut named = NamedCredentials::default();
        for side in ["source_options", "destination_options"] {
            let Some(name) = body[side][CREDENTIAL].as_str() else { continue };
            named.0.push((name.to_owned(), self.usable_credential(name, owner).await?));
        }
        Ok(named)
    }

    /// The options of one end of `owner`'s transfer with those of the credential that they name, if they name one: for
    /// whoever is about to use them, at every attempt anew.
    pub(crate) async fn complete_options(
        &self,
        url: &ObjectUrl,
        options: Options,
        owner: &str,
    ) -> Result<Result<Options, Unusable>, LedgerError> {
        let Some(name) = options.get(CREDENTIAL) else { return Ok(Ok(options)) };
        let credential = match self.usable_credential(name, owner).await? {
            Ok(credential) => credential,
            Err(unusable) => return Ok(Err(unusable)),
        };
        let module = self.inner.registry.module(url).map_err(|error| Unusable::fatal(error.message));
        Ok(module.and_then(|module| credential.complete(url, &options, module.as_ref())))
    }
}

impl Head {
    fn credential(self, options: Options) -> Credential {
        let names = self.options.into_iter().map(|name| (name, String::new()));
        // Where values are not wanted, their names are still told.
        let options = if options.is_empty() { names.collect() } else { options };
        let definition = Definition { schemes: self.schemes, urls: self.urls, options };
        let (name, owner, changed_at) = (self.name, self.owner, Some(self.changed_at));
        Credential { name, owner, kept: Kept::Sealed, definition, changed_at }
    }
}

fn read_head<'a>(key: &[u8], value: &'a [u8]) -> Result<(Head, &'a [u8]), LedgerError> {
    let end = value.iter().position(|byte| *byte == b'\n');
    let end = end.ok_or_else(|| LedgerError::unreadable(key, "nothing is sealed in it"))?;
    let head: Head = serde_json::from_slice(&value[..end]).map_err(|error| LedgerError::unreadable(key, error))?;
    if keys::credential(head.owner.as_deref(), &head.name) != key {
        return Err(LedgerError::unreadable(key, "it is another one's"));
    }
    Ok((head, &value[end + 1..]))
}

/// The refusal of a name that names nothing `place`.
pub fn no_credential(name: &str, place: &str) -> Problem {
    Problem::new(ProblemCode::CredentialNotFound, format!("there is no credential {name:?} of yours {place}"))
}
