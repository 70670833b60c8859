//! A destination that a plug-in writes, as an attempt owns it.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Plugin,
    destination::PluginDestination,
    handle::Handle,
    message::{Begin, ENTRIES_MAX, FoundThere, Prepared, Request},
};
use crate::{
    ByteRange, CRC_BLOCK, Error, Interrupt, Session,
    contract::{
        CommitError, DestinationRequest, Found, Identity, OpenDestination, Overwrite, Takes, UPLOAD_BYTES_MAX,
        WriteShape, Writes,
    },
};

/// See the module.
pub(super) struct PluginSession {
    handle: Arc<Handle>,
    takes: Takes,
    resumes: bool,
    found: Found,
    identity: Option<Identity>,
    upload: Option<String>,
    interrupt: Interrupt,
}

impl PluginSession {
    pub fn begin(plugin: &Plugin, request: &DestinationRequest) -> Result<Self, Error> {
        let handle = plugin.handle(&request.options)?;
        let pair = |identity: Identity| (identity.device, identity.inode);
        let begin = Request::Begin(Begin {
            object: handle.number(),
            url: request.url.as_str(),
            options: &request.options,
            transfer: &request.transfer,
            epoch: request.epoch,
            overwrite: request.overwrite != Overwrite::Never,
            resume: request.resume,
            upload: request.upload.as_deref(),
            prepared: request
                .prepared
                .map(|prepared| Prepared { length: prepared.length, identity: prepared.identity.map(pair) }),
        });
        let answer = handle.ask_blocking(&begin, &request.interrupt)?;
        let found = match answer.found {
            None | Some(FoundThere::Nothing) => Found::Nothing,
            Some(FoundThere::Partial) => Found::Partial,
            Some(FoundThere::Committed) => Found::Committed,
        };
        let hello = &plugin.known.hello;
        if found == Found::Partial && !(request.resume && hello.resumes) {
            return Err(handle.fault("went on with a partial, which it cannot or shall not do"));
        }
        if answer.identity.is_some() != hello.identifies && found != Found::Committed {
            return Err(handle.fault("gave an identity and does not say so in its hello, or the other way round"));
        }
        if found == Found::Committed && request.prepared.is_none() {
            return Err(handle.fault("found the object committed, and no commit was prepared"));
        }
        let mut session = Self {
            takes: hello.destination.expect("it is a destination"),
            resumes: hello.resumes,
            found,
            identity: answer.identity.map(|(device, inode)| Identity { device, inode }),
            upload: None,
            interrupt: request.interrupt.clone(),
            handle,
        };
        session.note_upload(answer.upload).map(|()| session)
    }

    fn ask(&self, request: &Request<'_>) -> Result<super::message::Answer, Error> {
        self.handle.ask_blocking(request, &self.interrupt)
    }

    fn note_upload(&mut self, upload: Option<String>) -> Result<(), Error> {
        if upload.as_ref().is_some_and(|upload| upload.len() > UPLOAD_BYTES_MAX) {
            return Err(self.handle.fault(format!("named an upload with more than {UPLOAD_BYTES_MAX} bytes")));
        }
        if upload.is_some() {
            self.upload = upload;
        }
        Ok(())
    }
}

impl Session for PluginSession {
    fn found(&self) -> Found {
        self.found
    }

    fn identity(&self) -> Option<Identity> {
        self.identity
    }

    fn writes(&mut self, length: Option<u64>) -> Result<Writes, Error> {
        let answer = self.ask(&Request::Writes { object: self.handle.number(), length })?;
        self.note_upload(answer.upload)?;
        match self.takes {
            Takes::Anywhere => Ok(Writes::Anywhere),
            Takes::InOrder => Ok(Writes::InOrder),
            Takes::Parts => match answer.part_bytes {
                Some(bytes) if bytes > 0 && bytes % CRC_BLOCK == 0 => Ok(Writes::Parts { bytes, streamed: false }),
                bytes => Err(self.handle.fault(format!("wants parts of {bytes:?} bytes, and not whole MiB"))),
            },
        }
    }

    fn upload(&self) -> Option<String> {
        self.upload.clone()
    }

    fn kept(&mut self, promised: &[ByteRange]) -> Result<Vec<ByteRange>, Error> {
        let mut kept = Vec::new();
        for some in promised.chunks(ENTRIES_MAX) {
            let promised = some.iter().map(|range| (range.start(), range.end())).collect();
            let answer = self.ask(&Request::Kept { object: self.handle.number(), promised })?;
            for (start, end) in answer.kept.unwrap_or_default() {
                let range = ByteRange::new(start, end).filter(|range| some.iter().any(|whole| covers(*whole, *range)));
                kept.push(range.ok_or_else(|| self.handle.fault("kept what was not promised"))?);
            }
        }
        Ok(kept)
    }

    fn load_block_crcs(&mut self, blocks: u64) -> Result<BTreeMap<u64, u32>, Error> {
        let mut noted = BTreeMap::new();
        if !self.resumes || self.found != Found::Partial && self.takes != Takes::Anywhere {
            return Ok(noted);
        }
        for from in (0..blocks).step_by(ENTRIES_MAX) {
            let to = blocks.min(from + ENTRIES_MAX as u64);
            let answer = self.ask(&Request::Noted { object: self.handle.number(), from, to })?;
            let crcs = answer.crcs.unwrap_or_default();
            if crcs.iter().any(|(block, _)| !(from..to).contains(block)) {
                return Err(self.handle.fault("noted blocks that it was not asked for"));
            }
            noted.extend(crcs);
        }
        Ok(noted)
    }

    fn append_block_crcs(&mut self, blocks: &[(u64, u32)]) -> Result<(), Error> {
        if !self.resumes {
            return Ok(());
        }
        for crcs in blocks.chunks(ENTRIES_MAX) {
            self.ask(&Request::Note { object: self.handle.number(), crcs })?;
        }
        Ok(())
    }

    fn open_on_lane(&self, _shape: WriteShape) -> Result<OpenDestination, Error> {
        Ok(PluginDestination { handle: self.handle.clone(), takes: self.takes }.into_open())
    }

    fn set_length(&mut self, length: u64) -> Result<(), Error> {
        self.ask(&Request::SetLength { object: self.handle.number(), length }).map(drop)
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        let commit = Request::Commit { object: self.handle.number() };
        // Interrupted or not, what comes of a commit has to be known.
        let answer = self.handle.ask_until(&commit, &Interrupt::default()).map_err(CommitError::Unknown)?;
        match answer.error {
            None => Ok(()),
            Some(complaint) if complaint.unknown => Err(CommitError::Unknown(self.handle.error(complaint))),
            Some(complaint) => Err(CommitError::NotDone(self.handle.error(complaint))),
        }
    }

    fn discard(&mut self) -> Result<(), Error> {
        // That it is not wanted any more is why it is discarded.
        let discard = Request::Discard { object: self.handle.number() };
        self.handle.ask_blocking(&discard, &Interrupt::default()).map(drop)
    }
}

fn covers(whole: ByteRange, part: ByteRange) -> bool {
    whole.start() <= part.start() && part.end() <= whole.end()
}
