//! Where services are, as a token's catalogue says. Pure.

use serde::Deserialize;
use url::Url;

use super::account::Wanted;
use crate::{Code, Error};

/// The services of a cloud, as one token may use them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Catalogue(Vec<Service>);

#[derive(Clone, Debug, Deserialize)]
struct Service {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Deserialize)]
struct Endpoint {
    interface: String,
    /// Its id, which is what people call a region's name.
    #[serde(default)]
    region_id: Option<String>,
    url: String,
}

impl Catalogue {
    /// The endpoint of a service that is meant where none is named, without a slash at its end.
    pub fn endpoint(&self, kind: &str, wanted: &Wanted) -> Result<String, Error> {
        let wanted = Wanted { interface: Some(wanted.interface().to_owned()), ..wanted.clone() };
        let mut fitting = self.fitting(kind, &wanted);
        let first = fitting.next().ok_or_else(|| self.missing(kind, &wanted))?;
        match fitting.find(|other| other != &first) {
            Some(_) => {
                let why = "has several endpoints in the catalogue; say with region_name which one";
                Err(Error::fatal(Code::InvalidOption, format!("the service {kind} {why}")))
            }
            None => Ok(first.to_owned()),
        }
    }

    /// Refuses a base URL that is none of a service's endpoints: the token would go to a stranger.
    pub fn check(&self, kind: &str, wanted: &Wanted, base: &Url) -> Result<(), Error> {
        if self.fitting(kind, wanted).any(|endpoint| is_same(endpoint, base)) {
            return Ok(());
        }
        let known: Vec<_> = self.fitting(kind, wanted).collect();
        if known.is_empty() {
            return Err(self.missing(kind, wanted));
        }
        Err(Error::fatal(
            Code::PermissionDenied,
            format!(
                "{base} is no endpoint of the service {kind} in Keystone's catalogue ({}), so it is shown no token; write \
                 one of these, or name it with the option endpoint",
                known.join(", ")
            ),
        ))
    }

    fn fitting<'a>(&'a self, kind: &str, wanted: &Wanted) -> impl Iterator<Item = &'a str> {
        let services = self.0.iter().filter(move |service| service.kind == kind);
        services
            .flat_map(|service| &service.endpoints)
            .filter(move |endpoint| {
                wanted.interface.as_ref().is_none_or(|interface| *interface == endpoint.interface)
                    && wanted.region.as_ref().is_none_or(|region| Some(region) == endpoint.region_id.as_ref())
            })
            .map(|endpoint| endpoint.url.trim_end_matches('/'))
    }

    fn missing(&self, kind: &str, wanted: &Wanted) -> Error {
        let of = |what: &str, value: &Option<String>| {
            value.as_ref().map_or(String::new(), |value| format!(" {what} {value}"))
        };
        let services: Vec<_> = self.0.iter().map(|service| service.kind.as_str()).collect();
        let has = match &services[..] {
            [] => "is empty: name a project (project_name)".to_owned(),
            services => format!("has: {}", services.join(", ")),
        };
        Error::fatal(
            Code::InvalidOption,
            format!(
                "Keystone's catalogue names no endpoint of the service {kind}{}{}; it {has}",
                of("in the region", &wanted.region),
                of("with the interface", &wanted.interface),
            ),
        )
    }
}

/// Whether an endpoint, with or without the version of its API, is `base`.
pub(crate) fn is_same(endpoint: &str, base: &Url) -> bool {
    let Ok(endpoint) = Url::parse(endpoint) else { return false };
    endpoint.origin() == base.origin() && bare_path(&endpoint) == bare_path(base)
}

fn bare_path(url: &Url) -> &str {
    let path = url.path().trim_end_matches('/');
    path.strip_suffix("/v2").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        let endpoint = |region: &str, interface: &str, url: &str| serde_json::json!({"region_id": region, "interface": interface, "url": url, "id": "x"});
        let image = [
            endpoint("one", "public", "https://one/image/"),
            endpoint("two", "public", "https://two:9292/v2/"),
            endpoint("one", "internal", "http://10.0.0.1:9292"),
        ];
        let text = serde_json::json!([{"type": "image", "name": "glance", "endpoints": image}, {"type": "empty"}]);
        serde_json::from_value(text).unwrap()
    }

    fn wanted(region: Option<&str>, interface: Option<&str>) -> Wanted {
        Wanted { region: region.map(str::to_owned), interface: interface.map(str::to_owned), endpoint: None }
    }

    #[test]
    fn an_endpoint_is_found_by_service_region_and_interface() {
        let find = |kind, region, interface| catalogue().endpoint(kind, &wanted(region, interface));
        assert_eq!(find("image", Some("one"), None).unwrap(), "https://one/image");
        assert_eq!(find("image", None, Some("internal")).unwrap(), "http://10.0.0.1:9292");
        for (kind, region, interface) in [
            ("image", None, None),
            ("image", Some("three"), None),
            ("image", Some("two"), Some("admin")),
            ("volume", None, None),
            ("empty", None, None),
        ] {
            assert_eq!(find(kind, region, interface).expect_err(kind).code, Code::InvalidOption);
        }
    }

    #[test]
    fn a_stranger_is_no_endpoint() {
        let check = |url: &str, region| catalogue().check("image", &wanted(region, None), &Url::parse(url).unwrap());
        for url in ["https://one/image", "https://one:443/image/", "https://two:9292", "http://10.0.0.1:9292/"] {
            assert_eq!(check(url, None), Ok(()), "{url}");
        }
        for url in
            ["http://one/image", "https://one/", "https://one/image/v2/x", "https://one.example/image", "https://two/"]
        {
            assert_eq!(check(url, None).expect_err(url).code, Code::PermissionDenied, "{url}");
        }
        assert_eq!(
            check("https://two:9292", Some("one")).unwrap_err().code,
            Code::PermissionDenied,
            "another region's"
        );
    }
}
