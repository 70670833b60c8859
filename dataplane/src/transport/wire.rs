//! Numbers, texts and ranges as they cross the network: little-endian, texts with their length before them.

use staccato_protocols::ByteRange;

/// Bytes are not what they should be; says how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Appends to a body.
pub struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.0.extend(value.to_le_bytes());
    }

    /// 1 and the number, or 0.
    pub fn optional_u64(&mut self, value: Option<u64>) {
        self.u8(value.is_some().into());
        if let Some(value) = value {
            self.u64(value);
        }
    }

    /// Length (2 bytes) and content, at most `bytes_max`: more is a defect of the caller.
    pub fn bytes(&mut self, value: &[u8], bytes_max: usize) {
        assert!(value.len() <= bytes_max && bytes_max <= usize::from(u16::MAX), "{} of {bytes_max} bytes", value.len());
        self.u16(value.len() as u16);
        self.0.extend(value);
    }

    pub fn range(&mut self, range: ByteRange) {
        self.u64(range.start());
        self.u64(range.end());
    }
}

/// Reads a body, from front to end.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        Ok(self.take(N)?.try_into().expect("as many as were asked for"))
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag is neither 0 nor 1")),
        }
    }

    pub fn optional_u64(&mut self) -> Result<Option<u64>, Malformed> {
        self.flag()?.then(|| self.u64()).transpose()
    }

    pub fn bytes(&mut self, bytes_max: usize) -> Result<&'a [u8], Malformed> {
        let len = usize::from(self.u16()?);
        if len > bytes_max {
            return Err(Malformed("a text is too long"));
        }
        self.take(len)
    }

    pub fn text(&mut self, bytes_max: usize) -> Result<String, Malformed> {
        let text = std::str::from_utf8(self.bytes(bytes_max)?);
        text.map(str::to_owned).map_err(|_| Malformed("a text is not UTF-8"))
    }

    pub fn range(&mut self) -> Result<ByteRange, Malformed> {
        let (start, end) = (self.u64()?, self.u64()?);
        ByteRange::new(start, end).ok_or(Malformed("a range ends before it begins"))
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("more follows than belongs to it")) }
    }
}
