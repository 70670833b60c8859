//! An image to read, opened on one lane.

use std::{rc::Rc, time::Duration};

use futures_util::{FutureExt, future::LocalBoxFuture};

use super::{images::Images, options::GlanceOptions, record::Record, target::Target};
use crate::{
    Access, BufferPool, ByteRange, Checksum, Chunk, Code, Error, Interrupt, Object, Source, Validator,
    contract::SourceRequest,
    keystone::Logins,
    web::{
        Web,
        client::{Condition, Connections},
        reader::Reader,
    },
};

/// An opened image.
pub(super) struct ImageSource {
    images: Images,
    record: Record,
    object: Object,
    /// Its data; none where there is none to read.
    data: Option<Reader>,
    interrupt: Interrupt,
}

impl ImageSource {
    pub async fn open(web: &Web, logins: &Logins, request: &SourceRequest) -> Result<Self, Error> {
        let (target, options) = (Target::parse(&request.url)?, GlanceOptions::parse(&request.options)?);
        let opening = async {
            let images = Images::open(web, logins, &target, &options).await?;
            let record = images.show(target.id()?).await?;
            Ok((images, record))
        };
        let (images, record) = request.interrupt.cut(opening).await?;
        record.check_readable()?;
        let validator = Validator::Version { version: record.version(), size: record.size };
        if request.pinned.as_ref().is_some_and(|pinned| *pinned != validator) {
            return Err(changed(&record.id, "since the transfer first opened it"));
        }
        let data = match record.size {
            Some(0) => None,
            _ => {
                let connections = Connections::new(images.client.clone(), images.data(&record.id)?);
                // Glance gives no tags: what the record says is what tells versions apart.
                let request = SourceRequest { pinned: None, ..request.clone() };
                Some(Reader::open(connections, Condition::IfRange, &request).await?)
            }
        };
        let (size, access) = match &data {
            None => (Some(0), Access::Random),
            Some(data) => (data.object().size, data.object().access),
        };
        if let (Some(told), Some(sent)) = (record.size, size)
            && told != sent
        {
            return Err(Error::retry(
                Code::ProtocolViolation,
                format!("the image {} has {told} bytes as its record says, but {sent} are sent", record.id),
            ));
        }
        let object = Object { size: record.size.or(size), validator: Some(validator), access };
        Ok(Self { images, record, object, data, interrupt: request.interrupt.clone() })
    }

    async fn look_again(&self) -> Result<(), Error> {
        let now = self.images.show(&self.record.id).await?;
        if (now.version(), now.size) != (self.record.version(), self.record.size) {
            return Err(changed(&now.id, "while it was being read"));
        }
        now.check_readable()
    }
}

fn changed(id: &str, when: &str) -> Error {
    Error::source_changed(format!("the image {id} was replaced by another {when}"))
}

impl Source for ImageSource {
    fn object(&self) -> &Object {
        &self.object
    }

    fn published(&self) -> Option<Checksum> {
        self.record.published()
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        self.read_on(range, range.end(), pool)
    }

    fn read_on<'a>(
        &'a self,
        range: ByteRange,
        stretch_end: u64,
        pool: &'a BufferPool,
    ) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move {
            let data = self.data.as_ref().filter(|_| self.object.size.is_none_or(|size| range.end() <= size));
            let Some(data) = data else {
                return Err(Error::fatal(Code::RangeOutsideObject, format!("{range} does not lie within the image")));
            };
            let chunk = data.read_on(range, stretch_end, pool).await?;
            // A stream without a length ends where it ends; the record says where that has to be.
            if self.object.size.is_some() && (chunk.len() as u64) < range.len() {
                let why = format!("the data of the image {} ended within {range}", self.record.id);
                return Err(Error::retry(Code::ConnectionLost, why));
            }
            Ok(chunk)
        }
        .boxed_local()
    }

    fn request_cost(&self) -> Duration {
        self.data.as_ref().map_or(Duration::ZERO, Source::request_cost)
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.interrupt.cut(self.look_again()).boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        // Connections close with the last hold on them.
        async move { drop(self) }.boxed_local()
    }
}
