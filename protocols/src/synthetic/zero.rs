//! `zero:///SIZE`: an object of that many zero bytes, or of pseudo-random ones.
//!
//! SIZE is a number of bytes, or one with a suffix: `K`, `M`, `G`, `T` and their long forms `KiB`, `MiB`, `GiB`, `TiB`
//! all count in powers of 1,024. `KB` and the like, which mean 1,000 to some and 1,024 to others, are refused.
//!
//! Without a seed the whole object is one hole. With one (`zero:///SIZE?seed=N`, or the option `seed`) its bytes are a
//! pure function of seed and offset, so that every range can be made on its own, and read again by somebody else.

use std::rc::Rc;

use futures_util::{FutureExt, future::LocalBoxFuture};

use crate::{
    Access, BufferPool, ByteRange, Capabilities, Chunk, Code, Error, Lane, Object, ObjectUrl, Options, Protocol,
    Runtime, Session, Source, Validator,
    contract::{DestinationRequest, OptionSpec, SourceRequest, Sums, SweepRequest, Takes},
    size::{parse_number, parse_size},
    sums,
};

/// Largest object: 1 EiB.
pub const SIZE_BYTES_MAX: u64 = 1 << 60;

/// The module for `zero://` URLs; sources only.
#[derive(Clone, Copy, Debug, Default)]
pub struct ZeroProtocol;

/// Fills `buffer` with the bytes from `offset` on of the object that belongs to `seed`: the 64-bit words of a
/// SplitMix64 sequence (Steele, Lea and Flood, OOPSLA 2014) that starts at a mix of the seed, in little-endian order. A
/// format constant: measurements and checksums of such objects are written down.
pub fn fill(seed: u64, offset: u64, buffer: &mut [u8]) {
    let start = mix(seed.wrapping_add(STEP));
    let word = |index: u64| mix(start.wrapping_add(index.wrapping_add(1).wrapping_mul(STEP))).to_le_bytes();
    let mut index = offset / 8;
    let within = (offset % 8) as usize;
    let (head, rest) = buffer.split_at_mut(if within == 0 { 0 } else { (8 - within).min(buffer.len()) });
    if !head.is_empty() {
        head.copy_from_slice(&word(index)[within..within + head.len()]);
        index += 1;
    }
    let mut words = rest.chunks_exact_mut(8);
    for bytes in &mut words {
        bytes.copy_from_slice(&word(index));
        index += 1;
    }
    let tail = words.into_remainder();
    tail.copy_from_slice(&word(index)[..tail.len()]);
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a URL and its options describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spec {
    size: u64,
    seed: Option<u64>,
}

impl Spec {
    fn parse(url: &ObjectUrl, options: &Options) -> Result<Self, Error> {
        let invalid =
            |why: &str| Error::fatal(Code::InvalidUrl, format!("{url} {why}; write for instance zero:///10GiB"));
        let parsed = url.url();
        if parsed.has_host() && parsed.host_str() != Some("") {
            return Err(invalid("has a host; the size stands behind three slashes"));
        }
        let path = parsed.path().strip_prefix('/').ok_or_else(|| invalid("names no size"))?;
        let size = parse_size(path)
            .filter(|size| *size <= SIZE_BYTES_MAX)
            .ok_or_else(|| invalid("names no size of at most 1 EiB"))?;
        let mut seed = None;
        for (name, value) in parsed.query_pairs() {
            if name != "seed" || seed.is_some() {
                return Err(invalid("has a query that is not one seed=N"));
            }
            seed = Some(parse_number(&value).ok_or_else(|| invalid("has a seed that is not a number below 2^64"))?);
        }
        if let Some(value) = options.get("seed") {
            let number = parse_number(value).ok_or_else(|| {
                Error::fatal(Code::InvalidOption, format!("seed: {value:?} is not a number below 2^64"))
            })?;
            if seed.is_some_and(|seed| seed != number) {
                return Err(Error::fatal(Code::InvalidOption, "seed: the URL names another one; keep one of them"));
            }
            seed = Some(number);
        }
        Ok(Self { size, seed })
    }
}

impl Protocol for ZeroProtocol {
    fn schemes(&self) -> &'static [&'static str] {
        &["zero"]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            source: true,
            destination: false,
            takes: Takes::Anywhere,
            runtimes: &[Runtime::TokioUring, Runtime::Glommio],
            options: &[OptionSpec {
                name: "seed",
                secret: false,
                help: "a number: pseudo-random bytes that depend on it instead of zeros (default none)",
            }],
        }
    }

    fn check_source(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        Spec::parse(url, options).map(drop)
    }

    fn check_destination(&self, url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        Err(no_destination(url))
    }

    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        _lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        async move {
            let spec = Spec::parse(&request.url, &request.options)?;
            let validator = Validator::Constant { size: spec.size, seed: spec.seed };
            if request.pinned.as_ref().is_some_and(|pinned| *pinned != validator) {
                return Err(Error::source_changed(format!("{} is not what the transfer first opened", request.url)));
            }
            let object = Object { size: Some(spec.size), validator: Some(validator), access: Access::Random };
            Ok(Rc::new(ZeroSource { object, spec }) as Rc<dyn Source>)
        }
        .boxed_local()
    }

    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        Err(no_destination(&request.url))
    }

    fn sweep(&self, _request: &SweepRequest) -> Result<(), Error> {
        Ok(()) // Nothing is ever written.
    }
}

fn no_destination(url: &ObjectUrl) -> Error {
    Error::fatal(
        Code::UnsupportedScheme,
        format!("{:?} cannot be a destination; to throw bytes away, write to null:///", url.scheme()),
    )
}

struct ZeroSource {
    object: Object,
    spec: Spec,
}

impl Source for ZeroSource {
    fn object(&self) -> &Object {
        &self.object
    }

    fn is_hole(&self, range: ByteRange) -> bool {
        self.spec.seed.is_none() && range.end() <= self.spec.size
    }

    fn sums(&self) -> Option<&dyn Sums> {
        Some(self)
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move {
            if range.is_empty() || range.end() > self.spec.size {
                return Err(Error::fatal(Code::RangeOutsideObject, format!("{range} does not lie within the object")));
            }
            let len = range.len() as usize;
            let Some(seed) = self.spec.seed else { return Ok(Chunk::zero(len)) };
            let mut chunk = pool.take(len).await;
            let buffer = chunk.buffer_mut().expect("chunks from a pool have a buffer");
            fill(seed, range.start(), &mut buffer[..len]);
            Ok(chunk)
        }
        .boxed_local()
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async {}.boxed_local()
    }
}

impl Sums for ZeroSource {
    fn crcs<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Vec<u32>, Error>> {
        sums::by_reading(self, range, pool).boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, Made, SourceHarness};
    use crate::contract::SharedProtocol;
    use proptest::prelude::*;

    struct Zeros {
        seed: Option<u64>,
    }

    impl SourceHarness for Zeros {
        fn protocol(&self) -> SharedProtocol {
            std::sync::Arc::new(ZeroProtocol)
        }
        fn options(&self) -> Options {
            self.seed.map(|seed| ("seed".to_owned(), seed.to_string())).into_iter().collect()
        }
        fn make(&self, _name: &str, len: usize) -> Made {
            let mut bytes = vec![0; len];
            if let Some(seed) = self.seed {
                fill(seed, 0, &mut bytes);
            }
            Made { url: ObjectUrl::parse(&format!("zero:///{len}")).unwrap(), bytes }
        }
    }

    #[test]
    fn zero_conforms_on_tokio_uring() {
        conformance::check_source(Rc::new(Zeros { seed: None }), Runtime::TokioUring);
        conformance::check_source(Rc::new(Zeros { seed: Some(7) }), Runtime::TokioUring);
    }

    #[test]
    fn zero_conforms_on_glommio() {
        conformance::check_source(Rc::new(Zeros { seed: None }), Runtime::Glommio);
        conformance::check_source(Rc::new(Zeros { seed: Some(7) }), Runtime::Glommio);
    }

    proptest! {
        #[test]
        fn any_range_of_a_seeded_object_can_be_made_alone(seed: u64, start in 0usize..200, len in 0usize..200) {
            let mut whole = vec![0; 400];
            fill(seed, 0, &mut whole);
            let mut part = vec![0; len];
            fill(seed, start as u64, &mut part);
            prop_assert_eq!(&part[..], &whole[start..start + len]);
        }
    }

    #[test]
    fn seeded_bytes_are_a_format_constant() {
        let mut bytes = vec![0; 1000];
        fill(1, 0, &mut bytes);
        // Computed by another program from the description of `fill`.
        assert_eq!(crc32fast::hash(&bytes), 117_994_950);
    }

    #[test]
    fn sizes_are_bytes_or_have_a_binary_suffix() {
        let spec = |url: &str| Spec::parse(&ObjectUrl::parse(url).unwrap(), &Options::new());
        for (url, size) in [
            ("zero:///0", 0),
            ("zero:/17", 17),
            ("zero:///10K", 10 << 10),
            ("zero:///10MiB", 10 << 20),
            ("zero:///3G", 3 << 30),
            ("zero:///1048576TiB", SIZE_BYTES_MAX),
        ] {
            assert_eq!(spec(url).unwrap(), Spec { size, seed: None }, "{url}");
        }
        assert_eq!(spec("zero:///1?seed=18446744073709551615").unwrap().seed, Some(u64::MAX));
        for url in [
            "zero:///",
            "zero:",
            "zero://10G",
            "zero:///10KB",
            "zero:///10k",
            "zero:///-1",
            "zero:///+1",
            "zero:///1.5G",
            "zero:///1/2",
            "zero:///1048577TiB",
            "zero:///99999999999999999999",
            "zero:///1?seed=",
            "zero:///1?seed=x",
            "zero:///1?sed=1",
            "zero:///1?seed=1&seed=1",
            "zero:///G",
        ] {
            assert_eq!(spec(url).expect_err(url).code, Code::InvalidUrl, "{url}");
        }
    }

    #[test]
    fn another_seed_is_another_version() {
        conformance::on_lane(Runtime::TokioUring, async |lane| {
            let open = async |seed: &str, pinned| {
                let request = SourceRequest {
                    url: ObjectUrl::parse("zero:///4K").unwrap(),
                    options: Options::from([("seed".into(), seed.into())]),
                    pinned,
                    aligned: true,
                    interrupt: Default::default(),
                };
                ZeroProtocol.open_source(&request, &lane).await.map(|source| source.object().validator.clone())
            };
            let pinned = open("1", None).await.unwrap();
            assert!(open("1", pinned.clone()).await.is_ok());
            assert_eq!(open("2", pinned).await.unwrap_err().code, Code::SourceChanged);
        });
    }

    #[test]
    fn a_seed_comes_from_the_url_or_the_options_but_not_two_from_both() {
        let spec = |url: &str, seed: &str| {
            Spec::parse(&ObjectUrl::parse(url).unwrap(), &Options::from([("seed".into(), seed.into())]))
        };
        assert_eq!(spec("zero:///1", "5").unwrap().seed, Some(5));
        assert_eq!(spec("zero:///1?seed=5", "5").unwrap().seed, Some(5));
        assert_eq!(spec("zero:///1?seed=5", "6").unwrap_err().code, Code::InvalidOption);
        assert_eq!(spec("zero:///1", "").unwrap_err().code, Code::InvalidOption);
    }
}
