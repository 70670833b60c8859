//! Credentials that the operator keeps outside of the store, on the service's host: files of a folder, read anew whenever
//! one is used, and variables of the service's environment, which stand still. (Those in the store are the
//! [`Ledger`](crate::ledger::Ledger)'s own.)

mod environment;
mod file;

#[cfg(test)]
mod tests;

use std::{io, path::PathBuf, sync::Arc};

pub use environment::{EnvironmentCredential, UnsetVariable, variables};

use crate::model::credential::{Credential, CredentialName, Unusable};

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfiguredCredentials {
    folder: Option<Arc<PathBuf>>,
    environment: Arc<[Credential]>,
}

impl ConfiguredCredentials {
    /// Those in the files of `folder`, and `environment`.
    pub fn new(folder: Option<PathBuf>, environment: Vec<Credential>) -> Self {
        Self { folder: folder.map(Arc::new), environment: environment.into() }
    }

    /// Refuses a folder that is none, or that others can look into: for whoever is about to serve.
    pub fn check(&self) -> io::Result<()> {
        self.folder.as_deref().map_or(Ok(()), |folder| file::check_folder(folder))
    }

    /// The one that `owner` means by `name`: that of a file before that of the environment.
    pub async fn find(&self, name: &CredentialName, owner: &str) -> Result<Option<Credential>, Unusable> {
        let (folder, wanted) = (self.folder.clone(), name.clone());
        let read = move || folder.map_or(Ok(None), |folder| file::read(&folder, &wanted));
        let read = tokio::task::spawn_blocking(read).await.expect("reading a file does not panic")?;
        let named = || self.environment.iter().find(|credential| credential.name == *name && credential.is_for(owner));
        Ok(read.filter(|credential| credential.is_for(owner)).or_else(|| named().cloned()))
    }

    /// All of them, in no order. Files that cannot be used are left out; the log says which, and why.
    pub async fn all(&self) -> Vec<Credential> {
        let folder = self.folder.clone();
        let read = move || folder.map_or_else(Vec::new, |folder| file::read_all(&folder));
        let mut all = tokio::task::spawn_blocking(read).await.expect("reading files does not panic");
        all.extend(self.environment.iter().cloned());
        all
    }
}
