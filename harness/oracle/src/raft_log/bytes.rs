//! Postcard's bytes, read one field after the other. Nothing here panics, and nothing allocates
//! more than the input is long.

/// The rest of the input.
pub(super) struct Reader<'a> {
    left: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes, length: bytes.len() }
    }

    fn at(&self) -> usize {
        self.length - self.left.len()
    }

    pub fn byte(&mut self, what: &str) -> Result<u8, String> {
        let (first, rest) = self.left.split_first().ok_or_else(|| self.short(what, 1))?;
        self.left = rest;
        Ok(*first)
    }

    /// A LEB128 integer; only its shortest form is one that a member writes, but longer ones mean
    /// the same and are taken.
    pub fn integer(&mut self, what: &str) -> Result<u64, String> {
        let (start, mut value) = (self.at(), 0u64);
        for shift in (0..70).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(format!("expected {what}, an integer of 64 bits, at byte {start}, found a longer one"))
    }

    pub fn blob(&mut self, what: &str) -> Result<&'a [u8], String> {
        let length = self.integer(what)?;
        let split = usize::try_from(length).ok().and_then(|length| self.left.split_at_checked(length));
        let (blob, rest) = split.ok_or_else(|| self.short(what, length))?;
        self.left = rest;
        Ok(blob)
    }

    pub fn text(&mut self, what: &str) -> Result<String, String> {
        let start = self.at();
        let blob = self.blob(what)?;
        let text = std::str::from_utf8(blob);
        text.map(str::to_owned)
            .map_err(|_| format!("expected {what} as text at byte {start}, found bytes that are not text"))
    }

    /// The number of elements that follow. Each takes a byte at least, so a number above the rest
    /// of the input is a lie.
    pub fn count(&mut self, what: &str) -> Result<u64, String> {
        let count = self.integer(what)?;
        if count > self.left.len() as u64 { Err(self.short(what, count)) } else { Ok(count) }
    }

    /// # Errors
    /// Something follows.
    pub fn end(&self, what: &str) -> Result<(), String> {
        match self.left.len() {
            0 => Ok(()),
            more => Err(format!("expected the end of {what} after {} bytes, found {more} more", self.at())),
        }
    }

    fn short(&self, what: &str, wanted: u64) -> String {
        let (at, left) = (self.at(), self.left.len());
        format!("expected {wanted} more bytes of {what} at byte {at}, found {left}")
    }
}
