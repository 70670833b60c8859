//! Glance, with Keystone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{OFFERED, Store, WRITTEN, rclone, reader, with_rivals, writer};
use crate::{
    contest::Contestant,
    contestants::Rival,
    servers::{
        glance::Glance,
        keystone::{DEMO, DOMAIN, Keystone, REGION},
    },
    worker::Program,
};

/// A Glance that keeps its images in files.
pub struct Images {
    keystone: Keystone,
    glance: Glance,
    /// The image that is read.
    id: String,
}

impl Images {
    /// Starts one that has this object.
    pub fn start(source: &Path) -> io::Result<Self> {
        let keystone = Keystone::start();
        let glance = Glance::start(&keystone);
        let token = keystone.token(DEMO);
        let id = glance.create(&token, &raw(OFFERED));
        glance.upload(&token, &id, &fs::read(source)?);
        Ok(Self { keystone, glance, id })
    }

    /// With a URL of Glance's, and who asks.
    fn with_account<T>(&self, path: &str, then: impl FnOnce(&str, &[(&str, &str)]) -> T) -> T {
        let url = format!("{}/{path}", self.glance.url().replace("http://", "glance://"));
        let auth_url = self.keystone.url();
        let user = [("username", DEMO.name), ("password", DEMO.password), ("project_name", DEMO.project)];
        then(&url, &[&user[..], &[("auth_url", &auth_url)]].concat())
    }

    /// OpenStack's own client.
    fn openstack(&self, name: &str, arguments: &[&str]) -> Rival {
        Rival::new(name, "openstack", arguments)
            .with_environment("OS_AUTH_URL", &self.keystone.url())
            .with_environment("OS_IDENTITY_API_VERSION", "3")
            .with_environment("OS_REGION_NAME", REGION)
            .with_environment("OS_USERNAME", DEMO.name)
            .with_environment("OS_PASSWORD", DEMO.password)
            .with_environment("OS_PROJECT_NAME", DEMO.project)
            .with_environment("OS_USER_DOMAIN_ID", DOMAIN)
            .with_environment("OS_PROJECT_DOMAIN_ID", DOMAIN)
    }

    /// The header of a client that does not sign in itself.
    fn token_header(&self) -> String {
        format!("X-Auth-Token: {}", self.keystone.token(DEMO))
    }

    fn data(&self, id: &str) -> String {
        format!("{}/v2/images/{id}/file", self.glance.url())
    }
}

impl Store for Images {
    fn offered(&self) -> Vec<PathBuf> {
        vec![self.glance.folder().join(&self.id)]
    }

    fn cpu_seconds(&self) -> f64 {
        self.glance.cpu_seconds() + self.keystone.cpu_seconds()
    }

    fn readers(&self, program: &Program) -> Vec<Box<dyn Contestant>> {
        let ours = self.with_account(&self.id, |url, options| reader(program, url, options));
        let (url, token) = (self.data(&self.id), self.token_header());
        let rivals = [
            self.openstack("openstack image save", &["image", "save", "--file", "{to}", &self.id]),
            Rival::new("curl with a token", "curl", &["-sSf", "-H", &token, "-o", "{to}", &url]),
            rclone("rclone with a token", &["copyurl", "--header", &token, &url, "{to}"]),
        ];
        with_rivals(ours, rivals)
    }

    fn writers(&self, program: &Program, source: &Path) -> Vec<Box<dyn Contestant>> {
        let from = source.display().to_string();
        let ours = self
            .with_account("", |url, options| writer(program, source, url, &[options, &[("name", WRITTEN)]].concat()));
        let create =
            ["image", "create", "--disk-format", "raw", "--container-format", "bare", "--file", &from, WRITTEN];
        let rivals = [self.openstack("openstack image create", &create)];
        with_rivals(ours, rivals)
    }

    fn remove_written(&self) -> io::Result<u64> {
        let token = self.keystone.token(DEMO);
        let mut len = 0;
        for id in self.glance.named(&token, WRITTEN) {
            let image = self.glance.image(&token, &id).unwrap_or_default();
            len += image["size"].as_u64().filter(|_| image["status"] == "active").unwrap_or(0);
            self.glance.delete(&token, &id);
        }
        Ok(len)
    }
}

fn raw(name: &str) -> serde_json::Value {
    json!({"name": name, "disk_format": "raw", "container_format": "bare"})
}
