//! An object that a plug-in reads.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use futures_util::{FutureExt, future::LocalBoxFuture};

use super::{
    Plugin,
    area::{SLOT_BYTES, Slot},
    handle::Handle,
    message::{Answer, Reads, Request, VALIDATOR_BYTES_MAX},
};
use crate::{
    Access, BufferPool, ByteRange, Checksum, Chunk, Code, Error, Object, Source, Validator, chunk::BlockCrcs,
    contract::SourceRequest,
};

/// Bytes that are copied and summed in one go: they stay in the processor's cache.
const COPY_BYTES: usize = 256 << 10;

/// See the module.
pub(super) struct PluginSource {
    plugin: Arc<Plugin>,
    request: SourceRequest,
    object: Object,
    published: Option<Checksum>,
    /// As it is open now: another one when the process was started again, or a stream begins again.
    handle: RefCell<Arc<Handle>>,
    /// Where a stream is.
    position: Cell<u64>,
}

impl PluginSource {
    pub async fn open(plugin: Arc<Plugin>, request: &SourceRequest) -> Result<Self, Error> {
        let (handle, answer) = open(&plugin, request).await?;
        let object = object_of(&plugin, &handle, &answer)?;
        if let Some(pinned) = &request.pinned
            && object.validator.as_ref() != Some(pinned)
        {
            return Err(changed(request));
        }
        Ok(Self {
            plugin,
            request: request.clone(),
            object,
            published: answer.checksum,
            handle: RefCell::new(handle),
            position: Cell::new(0),
        })
    }

    /// The object, opened again where its process has ended: the same version, or an error.
    async fn handle(&self) -> Result<Arc<Handle>, Error> {
        let handle = self.handle.borrow().clone();
        if handle.is_lost() { self.open_again().await } else { Ok(handle) }
    }

    async fn open_again(&self) -> Result<Arc<Handle>, Error> {
        let pinned = self.object.validator.clone();
        if pinned.is_none() && self.object.access == Access::Random {
            let why = format!("the plug-in that read {} has ended, and nothing tells its version", self.request.url);
            return Err(Error::retry(Code::ConnectionLost, why));
        }
        let request = SourceRequest { pinned, ..self.request.clone() };
        let (handle, answer) = open(&self.plugin, &request).await?;
        if object_of(&self.plugin, &handle, &answer)? != self.object {
            return Err(changed(&self.request));
        }
        self.handle.replace(handle.clone());
        self.position.set(0);
        Ok(handle)
    }

    /// The object, where its next byte is the one at `start`.
    async fn at(&self, start: u64) -> Result<Arc<Handle>, Error> {
        let mut handle = self.handle().await?;
        if self.object.access == Access::Random {
            return Ok(handle);
        }
        if self.position.get() > start {
            handle = self.open_again().await?;
        }
        while self.position.get() < start {
            let skipped = (start - self.position.get()).min(SLOT_BYTES);
            let (_, length) = self.fill(&handle, self.position.get(), skipped).await?;
            if length < skipped {
                break;
            }
        }
        Ok(handle)
    }

    /// A slot with bytes of the object, and how many.
    async fn fill(&self, handle: &Arc<Handle>, offset: u64, length: u64) -> Result<(Slot, u64), Error> {
        let interrupt = &self.request.interrupt;
        let slot = handle.slot(interrupt).await?;
        let read = Request::Read { object: handle.number(), offset, length, at: slot.start() };
        let (answer, slot) = handle.ask(&read, interrupt, slot).await?;
        let Some(got) = answer.length else { return Err(handle.fault("read without saying how many bytes")) };
        if got > length {
            return Err(handle.fault(format!("gave {got} bytes where {length} were asked for")));
        }
        self.position.set(offset + got);
        Ok((slot, got))
    }

    async fn read_chunk(&self, range: ByteRange, pool: &BufferPool) -> Result<Chunk, Error> {
        if self.object.size.is_some_and(|size| range.end() > size) {
            return Err(Error::fatal(Code::RangeOutsideObject, format!("{range} lies outside {}", self.request.url)));
        }
        let mut chunk = self.request.interrupt.cut(pool.take(range.len() as usize).map(Ok)).await?;
        let (mut done, mut crcs) = (0, BlockCrcs::default());
        let handle = self.at(range.start()).await?;
        if self.position.get() < range.start() && self.object.access == Access::Sequential {
            chunk.set_len(0);
            return Ok(chunk);
        }
        for piece in range.pieces(SLOT_BYTES) {
            let (slot, got) = self.fill(&handle, piece.start(), piece.len()).await?;
            let buffer = chunk.buffer_mut().expect("chunks from a pool have a buffer");
            for (index, part) in buffer[done..done + got as usize].chunks_mut(COPY_BYTES).enumerate() {
                let copied = slot.copy_to(part, (index * COPY_BYTES) as u64);
                copied.map_err(|error| Error::from_io(&error, Code::ReadFailed, "read what a plug-in gave"))?;
                crcs.update(part);
            }
            done += got as usize;
            if got < piece.len() {
                break;
            }
        }
        if (done as u64) < range.len() && self.object.size.is_some() {
            self.check_unchanged().await?;
            let why = format!("{} gave {done} of {} bytes at {}", self.request.url, range.len(), range.start());
            return Err(Error::retry(Code::ReadFailed, why));
        }
        chunk.set_len(done);
        chunk.set_crcs(crcs);
        Ok(chunk)
    }

    async fn check_unchanged(&self) -> Result<(), Error> {
        let handle = self.handle().await?;
        let interrupt = &self.request.interrupt;
        let (answer, ()) = handle.ask(&Request::Revalidate { object: handle.number() }, interrupt, ()).await?;
        let pinned = match &self.object.validator {
            Some(Validator::Version { version, .. }) => Some(version),
            _ => None,
        };
        if answer.validator.as_ref() == pinned { Ok(()) } else { Err(changed(&self.request)) }
    }
}

async fn open(plugin: &Plugin, request: &SourceRequest) -> Result<(Arc<Handle>, Answer), Error> {
    let pinned = match &request.pinned {
        None => None,
        Some(Validator::Version { version, .. }) => Some(version.as_str()),
        Some(_) => return Err(changed(request)),
    };
    let handle = plugin.handle(&request.options)?;
    let (url, options) = (request.url.as_str(), &request.options);
    let open = Request::Open { object: handle.number(), url, options, pinned };
    let (answer, ()) = handle.ask(&open, &request.interrupt, ()).await?;
    Ok((handle, answer))
}

/// What a plug-in has opened.
fn object_of(plugin: &Plugin, handle: &Handle, answer: &Answer) -> Result<Object, Error> {
    let ranges = plugin.known.hello.source == Some(Reads::Ranges);
    let access = answer.access.unwrap_or(if ranges { Access::Random } else { Access::Sequential });
    if access == Access::Random && (!ranges || answer.size.is_none()) {
        return Err(handle.fault("opened an object that is read in ranges, without being able to, or without its size"));
    }
    if answer.validator.as_ref().is_some_and(|text| text.is_empty() || text.len() > VALIDATOR_BYTES_MAX) {
        return Err(handle.fault(format!("gave a validator of no or more than {VALIDATOR_BYTES_MAX} bytes")));
    }
    let version = |version: &String| Validator::Version { version: version.clone(), size: answer.size };
    Ok(Object { size: answer.size, validator: answer.validator.as_ref().map(version), access })
}

fn changed(request: &SourceRequest) -> Error {
    Error::source_changed(format!("{} changed since the transfer first opened it", request.url))
}

impl Source for PluginSource {
    fn object(&self) -> &Object {
        &self.object
    }

    fn published(&self) -> Option<Checksum> {
        self.published.clone()
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        self.read_chunk(range, pool).boxed_local()
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.check_unchanged().boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        // The plug-in hears of it when the last question is answered.
        async move { drop(self) }.boxed_local()
    }
}
