use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};
use staccato_protocols::{
    Registry, Session, Source,
    contract::{DestinationRequest, Lane, OptionSpec, SourceRequest, SweepRequest, Takes},
    http::HttpProtocol,
    web::Web,
};

use super::*;
use crate::model::Problem;

/// Storage whose secrets go to its endpoint, whatever the URL says.
struct Vault;

impl Protocol for Vault {
    fn schemes(&self) -> &'static [&'static str] {
        &["vault"]
    }

    fn capabilities(&self) -> Capabilities {
        const OPTIONS: &[OptionSpec] = &[
            OptionSpec { name: "key", secret: true, help: "" },
            OptionSpec { name: "endpoint", secret: false, help: "" },
            OptionSpec { name: "class", secret: false, help: "" },
        ];
        Capabilities { source: true, destination: true, takes: Takes::Anywhere, runtimes: &[], options: OPTIONS }
    }

    fn secrecy(&self) -> Secrecy {
        Secrecy { sent_to_url: false, harmless: &["class"] }
    }

    fn check_source(&self, _: &ObjectUrl, _: &Options) -> Result<(), Error> {
        Ok(())
    }

    fn check_destination(&self, _: &ObjectUrl, _: &Options) -> Result<(), Error> {
        Ok(())
    }

    fn open_source<'a>(
        &'a self,
        _: &'a SourceRequest,
        _: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        unreachable!("no storage is looked at")
    }

    fn begin(&self, _: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        unreachable!("no storage is looked at")
    }

    fn sweep(&self, _: &SweepRequest) -> Result<(), Error> {
        unreachable!("no storage is looked at")
    }
}

fn registry() -> Registry {
    Registry::new().with(HttpProtocol::new(Web::new())).with(Vault)
}

fn definition(body: &Value) -> Result<Definition, Problem> {
    let definition = Definition::from_json(body.as_object().unwrap())?;
    definition.check(&registry()).map(|()| definition)
}

fn credential(body: &Value) -> Credential {
    let definition = Definition::from_json(body.as_object().unwrap()).unwrap();
    Credential { name: "c".parse().unwrap(), owner: None, kept: Kept::File, definition, changed_at: None }
}

/// The options of a request for `url` with those of the credential, or the option at fault.
fn complete(credential: &Value, url: &str, options: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let url = ObjectUrl::parse(url).unwrap();
    let named = [(CREDENTIAL, "c")];
    let options = named.iter().chain(options).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let registry = registry();
    let module = registry.module(&url).unwrap();
    let complete = self::credential(credential).complete(&url, &options, module.as_ref());
    let complete = complete.map_err(|unusable| {
        assert!(!unusable.error.message.contains("hush"), "{}", unusable.error.message);
        unusable.option
    })?;
    Ok(complete.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

#[test]
fn where_secrets_go_is_said_by_the_credential_alone() {
    let web = json!({"schemes": ["https"], "urls": ["https://h/a"], "options": {"header.Authorization": "hush"}});
    let taken = Ok(vec!["header.Authorization=hush".to_owned()]);
    assert_eq!(complete(&web, "https://h/a/x", &[]), taken);
    for url in ["http://h/a/x", "https://evil.example/a/x", "https://h/b", "https://h:8443/a/x", "vault://h/a"] {
        assert_eq!(complete(&web, url, &[]), Err(CREDENTIAL.into()), "{url}");
    }
    // Whoever trusts a certificate of the caller's may be talking to the caller; a header may change what is done.
    for option in ["ca", "header.Authorization", "header.authorization", "header.X-Original-URL", "nonsense"] {
        assert_eq!(complete(&web, "https://h/a/x", &[(option, "x")]), Err(option.into()));
    }
    assert_eq!(complete(&web, "https://h/a/x", &[("stall_timeout", "5s")]).unwrap().len(), 2);
    let unbound = json!({"schemes": ["https"], "options": {"header.Authorization": "hush"}});
    assert_eq!(complete(&unbound, "https://h/a/x", &[]), Err(CREDENTIAL.into()));
}

#[test]
fn an_endpoint_comes_from_the_credential_or_from_nobody() {
    for options in [json!({"key": "hush", "endpoint": "https://e"}), json!({"key": "hush"})] {
        let vault = json!({"schemes": ["vault"], "options": options, "urls": []});
        assert!(complete(&vault, "vault://any/x", &[("class", "cold")]).is_ok());
        for option in ["endpoint", "key"] {
            assert_eq!(complete(&vault, "vault://any/x", &[(option, "https://evil.example")]), Err(option.into()));
        }
    }
    let class = json!({"schemes": ["vault"], "urls": ["vault://one"], "options": {"key": "hush", "class": "hot"}});
    let taken = Ok(vec!["class=cold".to_owned(), "key=hush".to_owned()]);
    assert_eq!(complete(&class, "vault://one/x", &[("class", "cold")]), taken, "what is harmless is the request's");
    assert_eq!(complete(&class, "vault://two/x", &[]), Err(CREDENTIAL.into()));
}

#[test]
fn a_definition_says_what_is_wrong_with_it_and_repeats_no_value() {
    let options = json!({"header.Authorization": "hush"});
    let right = json!({"schemes": ["http", "https"], "urls": ["https://h", "http://h"], "options": options});
    assert!(definition(&right).is_ok());
    for (body, field) in [
        (json!({"schemes": ["https"], "urls": [], "options": options}), "urls"),
        (json!({"schemes": ["http", "https"], "urls": ["https://h"], "options": options}), "urls"),
        (json!({"schemes": ["https"], "urls": ["http://h"], "options": options}), "urls"),
        (json!({"schemes": ["https"], "urls": ["h"], "options": options}), "urls"),
        (json!({"schemes": ["https"], "urls": "https://h", "options": options}), "urls"),
        (json!({"urls": ["https://h"], "options": options}), "schemes"),
        (json!({"schemes": [], "options": options}), "schemes"),
        (json!({"schemes": ["ftp"], "options": options}), "schemes"),
        (json!({"schemes": ["https"]}), "options"),
        (json!({"schemes": ["https"], "options": {}}), "options"),
        (json!({"schemes": ["https"], "options": "hush"}), "options"),
        (json!({"schemes": ["https"], "urls": ["https://h"], "options": {"token": "hush"}}), "options"),
        (json!({"schemes": ["https"], "options": {"header.a": ["hush"]}}), "options.header.a"),
        (json!({"schemes": ["https"], "options": {"header.a": "hush\u{7}"}}), "options.header.a"),
        (json!({"schemes": ["https"], "options": {"credential": "hush"}}), "options.credential"),
        (json!({"schemes": ["vault"], "options": {"key": "hush".repeat(5000)}}), "options"),
        (json!({"schemes": ["vault"], "option": {"key": "hush"}}), "option"),
    ] {
        let problem = definition(&body).expect_err(field);
        assert_eq!(problem.field.as_deref(), Some(field), "{}", problem.detail);
        assert!(!problem.detail.contains("hush"), "{}", problem.detail);
    }
    assert!(!format!("{:?}", credential(&right)).contains("hush"));
}

#[test]
fn names_stay_the_same_in_a_url_and_as_a_files() {
    for name in ["a", "Backup-2.x_y", &"x".repeat(NAME_BYTES_MAX)] {
        assert_eq!(name.parse::<CredentialName>().unwrap().to_string(), name);
    }
    for name in ["", ".", "..", "-a", ".a", "a/b", "a b", "ä", &"x".repeat(NAME_BYTES_MAX + 1)] {
        assert!(name.parse::<CredentialName>().is_err(), "{name}");
    }
}
