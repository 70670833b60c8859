//! Objects that are written with one PUT: plain servers, WebDAV, URLs that were signed in advance.
//!
//! Servers make an object visible when its request is over, so its last byte waits for the commit. What they do with a
//! request that breaks off is their own business, and some keep what came. Where the server speaks WebDAV (RFC 4918), an
//! object is therefore put beside its name first, `.NAME.staccato-ID.EPOCH`, and moved at the commit.

use std::{
    rc::Rc,
    sync::Mutex,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::runtime;

use super::options::HttpOptions;
use crate::{
    Code, Destination, Error, Interrupt, ObjectUrl, Session,
    contract::{
        CommitError, DestinationRequest, Found, Identity, OpenDestination, Overwrite, SweepRequest, WriteShape, Writes,
    },
    web::{
        Web,
        answer::Head,
        client::Client,
        place::Place,
        upload::{self, Answer, Commit, UploadRequest},
    },
};

/// What an attempt writes with one request.
pub(super) struct PutSession {
    server: Server,
    epoch: u64,
    target: Place,
    /// Where it is put before it is moved; none where the server cannot move.
    aside: Option<Place>,
    overwrite: Overwrite,
    found: Found,
    length: Option<u64>,
    upload: Option<(Commit, Mutex<Option<upload::Waiting>>)>,
}

/// How this session asks the server: on a runtime of its own, in the thread of the attempt.
struct Server {
    web: Web,
    options: HttpOptions,
    interrupt: Interrupt,
}

impl PutSession {
    /// Looks at what is there, and how the server is to be written to.
    pub fn begin(web: Web, request: &DestinationRequest) -> Result<Self, Error> {
        let options = HttpOptions::parse(&request.options)?;
        let server = Server { web, options, interrupt: request.interrupt.clone() };
        let target = Place::origin(&request.url)?;
        let aside = server.can_move(&target)?.then(|| beside(&request.url, &request.transfer, request.epoch)).flatten();
        let mut session = Self {
            server,
            epoch: request.epoch,
            target,
            aside,
            overwrite: request.overwrite,
            found: Found::Nothing,
            length: None,
            upload: None,
        };
        if let Some(earlier) = request.upload.as_deref().and_then(|epoch| epoch.parse().ok()) {
            session.server.remove_aside(&request.url, &request.transfer, earlier)?;
        }
        let present = session.server.look(&session.target)?;
        match (&request.prepared, present) {
            // Nothing was there when that attempt began, and now something is, as long as what it wrote.
            (Some(prepared), Present::Object { length })
                if request.overwrite == Overwrite::Never && length == Some(prepared.length) =>
            {
                session.found = Found::Committed;
            }
            (_, Present::Object { .. }) if request.overwrite == Overwrite::Never => {
                return Err(exists(&session.target));
            }
            _ => (),
        }
        Ok(session)
    }

    fn request(&self) -> UploadRequest {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if self.aside.is_none() && self.overwrite == Overwrite::Never {
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let place = self.aside.as_ref().unwrap_or(&self.target).clone();
        UploadRequest { method: Method::PUT, place, headers, length: self.length }
    }

    /// Gives the object its name where it was put beside it.
    fn move_into_place(&self, from: &Place) -> Result<(), CommitError> {
        let mut headers = HeaderMap::new();
        let destination = HeaderValue::try_from(self.target.uri().to_string()).expect("a URI fits a header");
        headers.insert("destination", destination);
        let overwrite = if self.overwrite == Overwrite::Never { "F" } else { "T" };
        headers.insert("overwrite", HeaderValue::from_static(overwrite));
        let method = Method::from_bytes(b"MOVE").expect("it is a method");
        let head = self.server.ask(method, from, &headers).map_err(CommitError::Unknown)?;
        match head.status {
            status if status.is_success() && status != StatusCode::MULTI_STATUS => Ok(()),
            StatusCode::PRECONDITION_FAILED => Err(CommitError::NotDone(exists(&self.target))),
            status if status.is_server_error() => Err(CommitError::Unknown(refusal(&head))),
            _ => Err(CommitError::NotDone(refusal(&head))),
        }
    }

    /// Whether the server has what was sent, as far as it tells.
    fn check_stored(&self) -> Result<(), CommitError> {
        match (self.server.look(&self.target), self.length) {
            (Ok(Present::Object { length: Some(stored) }), Some(sent)) if stored != sent => Err(CommitError::Unknown(
                Error::retry(Code::ProtocolViolation, format!("{} took {sent} bytes and stores {stored}", self.target)),
            )),
            (Ok(Present::Nothing), _) => Err(CommitError::Unknown(Error::retry(
                Code::ProtocolViolation,
                format!("{} took the object and does not have it", self.target),
            ))),
            // Many servers do not answer such questions, for instance about URLs that were signed for a PUT only.
            _ => Ok(()),
        }
    }
}

impl Session for PutSession {
    fn found(&self) -> Found {
        self.found
    }

    fn identity(&self) -> Option<Identity> {
        None
    }

    fn writes(&mut self, length: Option<u64>) -> Result<Writes, Error> {
        self.length = length;
        let (commit, waiting) = upload::ends(self.server.interrupt.clone());
        self.upload = Some((commit, Mutex::new(Some(waiting))));
        Ok(Writes::InOrder)
    }

    /// The epoch, by which what was put aside is found.
    fn upload(&self) -> Option<String> {
        self.aside.as_ref().map(|_| self.epoch.to_string())
    }

    fn open_on_lane(&self, _shape: WriteShape) -> Result<OpenDestination, Error> {
        let twice = || Error::fatal(Code::Internal, "one request is written on one lane");
        let (_, waiting) = self.upload.as_ref().ok_or_else(twice)?;
        let waiting = waiting.lock().expect("nobody panics with it").take().ok_or_else(twice)?;
        let (request, web, options) = (self.request(), self.server.web.clone(), self.server.options.clone());
        Ok(Box::new(move |_lane| {
            async move {
                let client = Client::new(&web, &options.settings, Rc::new(options.headers))?;
                Ok(Rc::new(waiting.begin(Rc::new(client), request, |answer| refusal(&answer.head)))
                    as Rc<dyn Destination>)
            }
            .boxed_local()
        }))
    }

    fn set_length(&mut self, length: u64) -> Result<(), Error> {
        match self.length {
            Some(promised) if promised != length => Err(Error::fatal(Code::Internal, "the object has another length")),
            _ => {
                self.length = Some(length);
                Ok(())
            }
        }
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        let Some((commit, _)) = self.upload.take() else {
            return Err(CommitError::NotDone(Error::fatal(Code::Internal, "nothing was written")));
        };
        let unknown =
            |error| if self.aside.is_some() { CommitError::NotDone(error) } else { CommitError::Unknown(error) };
        let Answer { head, .. } = commit.finish().map_err(unknown)?;
        match head.status {
            status if status.is_success() => (),
            StatusCode::PRECONDITION_FAILED => return Err(CommitError::NotDone(exists(&self.target))),
            status if status.is_server_error() => return Err(unknown(refusal(&head))),
            _ => return Err(CommitError::NotDone(refusal(&head))),
        }
        if let Some(aside) = self.aside.clone() {
            self.move_into_place(&aside)?;
        }
        self.check_stored()?;
        self.found = Found::Committed;
        Ok(())
    }

    fn discard(&mut self) -> Result<(), Error> {
        self.upload = None;
        // What was interrupted is the upload, not its end.
        self.server.interrupt = Interrupt::default();
        match &self.aside {
            Some(aside) if self.found != Found::Committed => self.server.delete_for_good(aside),
            _ => Ok(()),
        }
    }
}

/// Removes what attempts have put beside the name.
pub(super) fn sweep(web: Web, request: &SweepRequest) -> Result<(), Error> {
    let options = HttpOptions::parse(&request.options)?;
    let server = Server { web, options, interrupt: Interrupt::default() };
    match request.upload.as_deref().and_then(|epoch| epoch.parse().ok()) {
        Some(epoch) => server.remove_aside(&request.url, &request.transfer, epoch),
        None => Ok(()),
    }
}

/// Between two looks at whether something that was deleted is there again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// So many looks in a row that find nothing are believed.
const LOOKS_GONE: usize = 3;
/// So long it is tried.
const LOOKS_TIME_MAX: Duration = Duration::from_secs(30);

/// What is at a destination.
enum Present {
    Nothing,
    Object {
        length: Option<u64>,
    },
    /// The server does not say.
    Unknown,
}

impl Server {
    /// Asks the server for something, and waits for the head of its answer.
    fn ask(&self, method: Method, place: &Place, headers: &HeaderMap) -> Result<Head, Error> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::from_io(&error, Code::Internal, "start a runtime for a request"))?;
        let asking = async {
            let client = Client::new(&self.web, &self.options.settings, Rc::new(self.options.headers.clone()))?;
            Ok(client.send(method, place, headers, &[]).await?.into_head())
        };
        runtime.block_on(self.interrupt.cut(asking))
    }

    /// Whether the server moves objects: it says that it speaks WebDAV, and the URL is not signed for one request.
    fn can_move(&self, target: &Place) -> Result<bool, Error> {
        if target.has_query() {
            return Ok(false);
        }
        let head = self.ask(Method::OPTIONS, target, &HeaderMap::new())?;
        match head.status {
            StatusCode::UNAUTHORIZED => Err(refusal(&head)),
            status => Ok(status.is_success() && head.headers.contains_key("dav")),
        }
    }

    fn look(&self, place: &Place) -> Result<Present, Error> {
        let head = self.ask(Method::HEAD, place, &HeaderMap::new())?;
        Ok(match head.status {
            status if status.is_success() => Present::Object { length: head.content_length() },
            StatusCode::NOT_FOUND | StatusCode::GONE => Present::Nothing,
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(refusal(&head));
            }
            _ => Present::Unknown,
        })
    }

    fn remove_aside(&self, url: &ObjectUrl, transfer: &str, epoch: u64) -> Result<(), Error> {
        beside(url, transfer, epoch).map_or(Ok(()), |place| self.delete_for_good(&place))
    }

    /// Deletes what an upload has left that was broken off. The server may not have noticed that yet: then it keeps the name
    /// locked, or writes what it has under it once more.
    fn delete_for_good(&self, place: &Place) -> Result<(), Error> {
        let (mut seen_gone, until) = (0, Instant::now() + LOOKS_TIME_MAX);
        while Instant::now() < until {
            let deleted = self.delete(place)?;
            std::thread::sleep(LOOK_AGAIN);
            match self.look(place)? {
                Present::Nothing | Present::Unknown if deleted => seen_gone += 1,
                _ => seen_gone = 0,
            }
            if seen_gone == LOOKS_GONE {
                return Ok(());
            }
        }
        Err(Error::retry(Code::WriteFailed, format!("{place} is locked, or there again whenever it is deleted")))
    }

    /// Whether nothing is there now, as far as the server tells; not while it is locked.
    fn delete(&self, place: &Place) -> Result<bool, Error> {
        let head = self.ask(Method::DELETE, place, &HeaderMap::new())?;
        match head.status {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(true),
            StatusCode::LOCKED => Ok(false),
            _ => Err(refusal(&head)),
        }
    }
}

/// Where an attempt puts its object before it is moved.
fn beside(url: &ObjectUrl, transfer: &str, epoch: u64) -> Option<Place> {
    let mut aside = url.url().clone();
    let name = aside.path_segments()?.next_back()?.to_owned();
    aside.path_segments_mut().ok()?.pop().push(&format!(".{}.staccato-{transfer}.{epoch}", percent_decoded(&name)));
    Place::origin(&ObjectUrl::parse(aside.as_str()).ok()?).ok()
}

fn percent_decoded(name: &str) -> String {
    percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned()
}

fn exists(target: &Place) -> Error {
    Error::fatal(
        Code::DestinationExists,
        format!("{target} is there already; remove it, or say \"overwrite\": \"always\""),
    )
}

/// What an answer without success means for whoever writes.
fn refusal(head: &Head) -> Error {
    let (url, status) = (&head.url, head.status);
    match status.as_u16() {
        404 | 409 => Error::fatal(
            Code::DestinationFolderMissing,
            format!("{url} answered {status}: the folder is not there; create it, then run the transfer again"),
        ),
        411 => {
            Error::fatal(Code::HttpStatus, format!("{url} wants to know the length, which the source does not tell"))
        }
        413 => {
            Error::fatal(Code::HttpStatus, format!("{url} answered {status}: the object is too large for the server"))
        }
        405 | 501 => {
            Error::fatal(Code::HttpStatus, format!("{url} answered {status}: the server takes no uploads there"))
        }
        507 => {
            let message = format!("{url} answered {status}; free space there, then run it again");
            Error::retry(Code::NoSpace, message)
        }
        300..=399 => Error::fatal(
            Code::RedirectRefused,
            format!("{url} answered {status}: uploads are not redirected; name the final URL"),
        ),
        _ => head.status_error(),
    }
}
