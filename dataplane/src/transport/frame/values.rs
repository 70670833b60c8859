//! What frames carry, beside numbers: versions of objects, and errors.

use std::time::Duration;

use staccato_protocols::{Code, Disposition, Error, FileTime, Object, Validator};

use super::{
    super::wire::{Malformed, Reader, Writer},
    DETAIL_BYTES_MAX, ETAG_BYTES_MAX, FrameError,
};

const CODE_BYTES_MAX: usize = 64;

/// The length and the version of an object.
pub(in super::super) fn encode_object(object: &Object, out: &mut Vec<u8>) {
    let mut to = Writer(out);
    to.optional_u64(object.size);
    encode_validator(object.validator.as_ref(), &mut to);
}

pub(super) fn encode_validator(validator: Option<&Validator>, to: &mut Writer<'_>) {
    match validator {
        None => to.u8(0),
        Some(Validator::Inode { device, inode, size, mtime, ctime }) => {
            to.u8(1);
            [*device, *inode, *size].into_iter().for_each(|number| to.u64(number));
            for time in [mtime, ctime] {
                to.i64(time.seconds);
                to.u32(time.nanoseconds);
            }
        }
        Some(Validator::Etag { etag, size }) => {
            to.u8(2);
            to.bytes(etag.as_bytes(), ETAG_BYTES_MAX);
            to.optional_u64(*size);
        }
        Some(Validator::Constant { size, seed }) => {
            to.u8(3);
            to.u64(*size);
            to.optional_u64(*seed);
        }
        Some(Validator::Version { version, size }) => {
            to.u8(4);
            to.bytes(version.as_bytes(), ETAG_BYTES_MAX);
            to.optional_u64(*size);
        }
    }
}

pub(super) fn decode_validator(from: &mut Reader<'_>) -> Result<Option<Validator>, FrameError> {
    let time = |from: &mut Reader<'_>| Ok::<_, Malformed>(FileTime { seconds: from.i64()?, nanoseconds: from.u32()? });
    Ok(match from.u8()? {
        0 => None,
        1 => Some(Validator::Inode {
            device: from.u64()?,
            inode: from.u64()?,
            size: from.u64()?,
            mtime: time(from)?,
            ctime: time(from)?,
        }),
        2 => Some(Validator::Etag { etag: from.text(ETAG_BYTES_MAX)?, size: from.optional_u64()? }),
        3 => Some(Validator::Constant { size: from.u64()?, seed: from.optional_u64()? }),
        4 => Some(Validator::Version { version: from.text(ETAG_BYTES_MAX)?, size: from.optional_u64()? }),
        _ => return Err(FrameError::Malformed("an unknown kind of validator")),
    })
}

pub(super) fn encode_error(error: &Error, to: &mut Writer<'_>) {
    to.bytes(error.code.as_str().as_bytes(), CODE_BYTES_MAX);
    match error.disposition {
        Disposition::Retry { after } => {
            to.u8(0);
            to.optional_u64(after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)));
        }
        Disposition::SourceChanged => to.u8(1),
        Disposition::Fatal => to.u8(2),
        Disposition::Canceled => to.u8(3),
    }
    let detail = &error.message;
    let end = (0..=DETAIL_BYTES_MAX.min(detail.len())).rev().find(|end| detail.is_char_boundary(*end)).unwrap_or(0);
    to.bytes(&detail.as_bytes()[..end], DETAIL_BYTES_MAX);
}

pub(super) fn decode_error(from: &mut Reader<'_>) -> Result<Error, FrameError> {
    let name = from.text(CODE_BYTES_MAX)?;
    // A later build may know more codes; what the reader can do is said beside them.
    let code = Code::ALL.into_iter().find(|code| code.as_str() == name).unwrap_or(Code::Internal);
    let disposition = match from.u8()? {
        0 => Disposition::Retry { after: from.optional_u64()?.map(Duration::from_millis) },
        1 => Disposition::SourceChanged,
        2 => Disposition::Fatal,
        3 => Disposition::Canceled,
        _ => return Err(FrameError::Malformed("an unknown disposition")),
    };
    Ok(Error { code, disposition, message: from.text(DETAIL_BYTES_MAX)? })
}
