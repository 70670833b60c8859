//! Documents. Whoever reads one has bounded its length; nothing in it is expanded. Pure.

use std::fmt::Write as _;

use quick_xml::escape::escape;
use serde::Deserialize;

/// A document that a server answers with.
#[derive(Debug, Deserialize)]
pub(super) enum Document {
    /// Why it does not do what it was asked for.
    Error(Fault),
    /// An upload has begun. (Some servers leave out the last word.)
    #[serde(alias = "InitiateMultipartUpload")]
    InitiateMultipartUploadResult(Begun),
    /// Parts of an upload.
    ListPartsResult(Parts),
    /// Uploads that are not complete.
    ListMultipartUploadsResult(Uploads),
    /// An upload is complete.
    CompleteMultipartUploadResult(Completed),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Fault {
    pub code: String,
    pub message: String,
    /// Where the bucket is, if it is elsewhere.
    pub region: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Begun {
    pub upload_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Parts {
    pub is_truncated: bool,
    pub next_part_number_marker: Option<u32>,
    #[serde(rename = "Part")]
    pub parts: Vec<Part>,
}

/// A part that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Part {
    #[serde(rename = "PartNumber")]
    pub number: u32,
    #[serde(rename = "Size")]
    pub size: u64,
    #[serde(rename = "ETag")]
    pub etag: String,
    #[serde(rename = "ChecksumCRC32")]
    pub crc32: Option<String>,
    #[serde(rename = "ChecksumSHA256")]
    pub sha256: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Uploads {
    pub is_truncated: bool,
    pub next_key_marker: String,
    pub next_upload_id_marker: String,
    #[serde(rename = "Upload")]
    pub uploads: Vec<Upload>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Upload {
    pub key: String,
    pub upload_id: String,
    pub initiated: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Completed {}

impl Document {
    /// None where it is no document of the store.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        // A server that keeps the connection alive by sending spaces sends them before the document.
        let text = std::str::from_utf8(bytes).ok()?.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
        quick_xml::de::from_str(text).ok()
    }
}

/// The document that completes an upload.
pub(super) fn completion<'a>(parts: impl Iterator<Item = &'a Part>) -> String {
    let mut text = String::from(r#"<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">"#);
    for part in parts {
        let (number, etag) = (part.number, escape(part.etag.as_str()));
        let _ = write!(text, "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>");
        for (name, value) in [("ChecksumCRC32", &part.crc32), ("ChecksumSHA256", &part.sha256)] {
            if let Some(value) = value {
                let _ = write!(text, "<{name}>{}</{name}>", escape(value.as_str()));
            }
        }
        text.push_str("</Part>");
    }
    text.push_str("</CompleteMultipartUpload>");
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn documents_are_told_by_their_root_also_behind_spaces() {
        let error = " \r\n <?xml version=\"1.0\"?>\n\
                     <Error><Code>SlowDown</Code><Message>a &amp; b</Message><X><Y/></X></Error>";
        let Some(Document::Error(fault)) = Document::parse(error.as_bytes()) else { panic!("it is an error") };
        assert_eq!((fault.code.as_str(), fault.message.as_str()), ("SlowDown", "a & b"));
        let listing = r#"<ListPartsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Bucket>b</Bucket>
            <NextPartNumberMarker>2</NextPartNumberMarker><IsTruncated>true</IsTruncated>
            <Part><PartNumber>1</PartNumber><ETag>&quot;x&quot;</ETag><Size>7</Size><Owner>x</Owner></Part>
            <Part><PartNumber>2</PartNumber><ETag>"y"</ETag><Size>8</Size><ChecksumCRC32>AA==</ChecksumCRC32></Part>
            </ListPartsResult>"#;
        let Some(Document::ListPartsResult(parts)) = Document::parse(listing.as_bytes()) else {
            panic!("it is a list")
        };
        assert!(parts.is_truncated && parts.next_part_number_marker == Some(2));
        assert_eq!(parts.parts[0], Part { number: 1, size: 7, etag: "\"x\"".into(), ..Part::default() });
        assert_eq!(parts.parts[1].crc32.as_deref(), Some("AA=="));
        for text in ["", "x", "<html></html>", "<Error>", "<InitiateMultipartUploadResult/>"] {
            assert!(Document::parse(text.as_bytes()).is_none(), "{text}");
        }
        let bomb = r#"<!DOCTYPE x [<!ENTITY a "aaaa">]><Error><Code>&a;</Code></Error>"#;
        assert!(Document::parse(bomb.as_bytes()).is_none(), "nothing is expanded");
    }

    #[test]
    fn what_completes_an_upload_is_escaped() {
        let part = Part { number: 3, etag: "\"<&\"".into(), crc32: Some("AA==".into()), ..Part::default() };
        let text = completion([part].iter());
        let tag = "<ETag>&quot;&lt;&amp;&quot;</ETag>";
        let wanted = format!("<Part><PartNumber>3</PartNumber>{tag}<ChecksumCRC32>AA==</ChecksumCRC32></Part>");
        assert!(text.contains(&wanted), "{text}");
    }

    proptest! {
        #[test]
        fn whatever_a_server_sends_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Document::parse(&bytes);
        }
    }
}
