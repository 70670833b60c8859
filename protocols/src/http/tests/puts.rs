//! Servers that are written to with PUT, plain ones and those that speak WebDAV.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use super::*;
use crate::{
    conformance::DestinationHarness,
    testing::http_server::{Reply, Seen},
};

/// A server, and what it stores by path.
struct Stored {
    server: HttpServer,
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Stored {
    fn start(moves: bool) -> Rc<Self> {
        let (server, objects) = (HttpServer::start(), Arc::<Mutex<BTreeMap<String, Vec<u8>>>>::default());
        let answering = objects.clone();
        server.program(move |request| Some(answer(&mut answering.lock().unwrap(), request, moves)));
        Rc::new(Self { server, objects })
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.objects.lock().unwrap()
    }
}

fn answer(objects: &mut BTreeMap<String, Vec<u8>>, request: &Seen, moves: bool) -> Reply {
    let (path, header) = (&request.target, |name: &str| request.headers.get(name).map(String::as_str));
    match request.method.as_str() {
        "OPTIONS" if moves => Reply::new(200).header("DAV", "1"),
        "OPTIONS" => Reply::new(200),
        "HEAD" => match objects.get(path) {
            Some(body) => Reply::new(200).body(body.clone()),
            None => Reply::new(404),
        },
        "PUT" if header("if-none-match") == Some("*") && objects.contains_key(path) => Reply::new(412),
        "PUT" if request.whole => {
            objects.insert(path.clone(), request.body.clone());
            Reply::new(201)
        }
        "DELETE" => Reply::new(if objects.remove(path).is_some() { 204 } else { 404 }),
        "MOVE" if moves => {
            let to = header("destination").and_then(|url| url.splitn(4, '/').nth(3)).expect("it says where to");
            let to = format!("/{to}");
            match objects.get(path).cloned() {
                Some(_) if header("overwrite") == Some("F") && objects.contains_key(&to) => Reply::new(412),
                Some(body) => {
                    objects.remove(path);
                    objects.insert(to, body);
                    Reply::new(201)
                }
                None => Reply::new(404),
            }
        }
        _ => Reply::new(405),
    }
}

impl DestinationHarness for Stored {
    fn protocol(&self) -> SharedProtocol {
        Arc::new(HttpProtocol::new(Web::new()))
    }
    fn url(&self, name: &str) -> ObjectUrl {
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        ObjectUrl::parse(&self.server.url(&format!("/{name}"))).unwrap()
    }
    fn visible(&self, url: &ObjectUrl) -> Option<Vec<u8>> {
        self.objects().get(url.url().path()).cloned()
    }
    fn place(&self, url: &ObjectUrl, bytes: &[u8]) {
        self.objects().insert(url.url().path().to_owned(), bytes.into());
    }
    fn left_overs(&self) -> usize {
        self.objects().keys().filter(|path| path.contains(".staccato-")).count()
    }
}

#[test]
fn http_conforms_as_a_destination_of_one_stream() {
    conformance::check_in_order_destination(Stored::start(false), Runtime::TokioUring);
}

#[test]
fn http_conforms_as_a_destination_that_moves_into_place() {
    conformance::check_in_order_destination(Stored::start(true), Runtime::TokioUring);
}
