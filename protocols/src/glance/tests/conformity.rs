//! The suites of sources, and of destinations that take one stream.

use super::*;

/// A Glance, and how it serves the data of every image.
struct Served {
    glance: FakeGlance,
    dress: fn(Page) -> Page,
}

impl Served {
    fn new(dress: fn(Page) -> Page) -> Rc<Self> {
        Rc::new(Self { glance: FakeGlance::start(), dress })
    }

    fn put(&self, id: &str, bytes: &[u8]) {
        self.glance.put_page(id, bytes, (self.dress)(Page::new(bytes).etag(None)));
    }
}

impl SourceHarness for Served {
    fn protocol(&self) -> SharedProtocol {
        Arc::new(GlanceProtocol::new(Web::new()))
    }
    fn make(&self, name: &str, len: usize) -> Made {
        let (id, bytes) =
            (format!("{:08x}-2222-4333-8444-555555555555", crc32fast::hash(name.as_bytes())), sample(name, len));
        self.put(&id, &bytes);
        Made { url: ObjectUrl::parse(&self.glance.url(&id)).unwrap(), bytes }
    }
    fn change(&self, made: &Made) -> bool {
        let bytes: Vec<u8> = made.bytes.iter().map(|byte| !byte).collect();
        self.put(made.url.url().path().trim_start_matches('/'), &bytes);
        true
    }
    fn missing(&self) -> Option<ObjectUrl> {
        Some(ObjectUrl::parse(&self.glance.url("missing")).unwrap())
    }
}

#[test]
fn glance_conforms_with_ranges() {
    conformance::check_source(Served::new(|page| page), Runtime::TokioUring);
}

#[test]
fn glance_conforms_without_ranges() {
    conformance::check_source(Served::new(|page| page.without_ranges(Framing::Length)), Runtime::TokioUring);
}

#[test]
fn glance_conforms_with_data_without_length() {
    conformance::check_source(Served::new(|page| page.without_ranges(Framing::Chunked)), Runtime::TokioUring);
}

/// A Glance in which images are made.
struct Maker(FakeGlance);

impl Maker {
    fn id(url: &ObjectUrl) -> &str {
        url.url().path().trim_start_matches('/')
    }
}

impl DestinationHarness for Maker {
    fn protocol(&self) -> SharedProtocol {
        Arc::new(GlanceProtocol::new(Web::new()))
    }
    fn url(&self, name: &str) -> ObjectUrl {
        let id = format!("{:08x}-2222-4333-8444-555555555555", crc32fast::hash(name.as_bytes()));
        ObjectUrl::parse(&self.0.url(&id)).unwrap()
    }
    fn visible(&self, url: &ObjectUrl) -> Option<Vec<u8>> {
        self.0.data(Self::id(url))
    }
    fn place(&self, url: &ObjectUrl, bytes: &[u8]) {
        self.0.place(Self::id(url), bytes);
    }
    fn left_overs(&self) -> usize {
        self.0.waiting()
    }
}

#[test]
fn glance_conforms_as_a_destination_of_one_stream() {
    conformance::check_in_order_destination(Rc::new(Maker(FakeGlance::start())), Runtime::TokioUring);
}
