//! Kafka's primitive types, without tagged fields. No I/O.
//!
//! Decoding takes no memory before the bytes for it are there: a length that is announced is compared with what is
//! left and with a limit first. That is why requests are not decoded by a library: `kafka-protocol` allocates what
//! an array announces, up to 2^31 elements.

use crate::limits::KAFKA_ARRAY_MAX;

/// The request is none. The connection is closed, since nothing behind it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Topics by name, and something about partitions of each, in the order of a request.
pub type Topics<'a, T> = Vec<(&'a str, Vec<T>)>;

/// Reads a request from its front.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, left) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = left;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    /// A number of 8 bits.
    pub fn i8(&mut self) -> Result<i8, Malformed> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    /// A number of 16 bits.
    pub fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    /// A number of 32 bits.
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// A number of 64 bits.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    /// A text that may be null.
    pub fn nullable(&mut self) -> Result<Option<&'a str>, Malformed> {
        let length = self.i16()?;
        if length == -1 {
            return Ok(None);
        }
        let bytes = self.take(usize::try_from(length).map_err(|_| Malformed)?)?;
        std::str::from_utf8(bytes).map(Some).map_err(|_| Malformed)
    }

    /// A text.
    pub fn string(&mut self) -> Result<&'a str, Malformed> {
        self.nullable()?.ok_or(Malformed)
    }

    /// Bytes; null is none.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(&[]);
        }
        self.take(usize::try_from(length).map_err(|_| Malformed)?)
    }

    /// An array that may be null. Every element takes a byte at least.
    pub fn nullable_array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Malformed> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        if length > KAFKA_ARRAY_MAX || length > self.0.len() {
            return Err(Malformed);
        }
        (0..length).map(|_| element(self)).collect::<Result<_, _>>().map(Some)
    }

    /// An array.
    pub fn array<T>(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        self.nullable_array(element)?.ok_or(Malformed)
    }

    /// Topics that may be null, each with something about some of its partitions.
    pub fn nullable_topics<T>(
        &mut self,
        mut partition: impl FnMut(&mut Self, &'a str) -> Result<T, Malformed>,
    ) -> Result<Option<Topics<'a, T>>, Malformed> {
        self.nullable_array(|reader| {
            let topic = reader.string()?;
            Ok((topic, reader.array(|reader| partition(reader, topic))?))
        })
    }

    /// Topics, each with something about some of its partitions.
    pub fn topics<T>(
        &mut self,
        partition: impl FnMut(&mut Self, &'a str) -> Result<T, Malformed>,
    ) -> Result<Topics<'a, T>, Malformed> {
        self.nullable_topics(partition)?.ok_or(Malformed)
    }
}

/// Writes an answer.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// A number of 8 bits.
    pub fn i8(&mut self, value: i8) {
        self.0.extend(value.to_be_bytes());
    }

    /// A number of 16 bits.
    pub fn i16(&mut self, value: i16) {
        self.0.extend(value.to_be_bytes());
    }

    /// A number of 32 bits.
    pub fn i32(&mut self, value: i32) {
        self.0.extend(value.to_be_bytes());
    }

    /// A number of 64 bits.
    pub fn i64(&mut self, value: i64) {
        self.0.extend(value.to_be_bytes());
    }

    /// A text of less than 32 KiB, as all are that came in a request.
    pub fn string(&mut self, text: &str) {
        self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        self.0.extend(&text.as_bytes()[..text.len().min(i16::MAX as usize)]);
    }

    /// A text, or null.
    pub fn nullable(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.string(text),
            None => self.i16(-1),
        }
    }

    /// How many bytes or elements follow.
    ///
    /// # Panics
    /// If they are 2^31 or more, which the limits of requests and answers forbid.
    pub fn length(&mut self, count: usize) {
        self.i32(i32::try_from(count).expect("an answer is bounded"));
    }

    /// Bytes, or an array of bytes that was encoded before.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.extend(bytes);
    }

    /// An array.
    pub fn array<T>(
        &mut self,
        elements: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
        mut element: impl FnMut(&mut Self, T),
    ) {
        let elements = elements.into_iter();
        self.length(elements.len());
        for one in elements {
            element(self, one);
        }
    }

    /// Topics, and what is said of partitions of each.
    pub fn topics<T>(
        &mut self,
        topics: Topics<'_, T>,
        mut partition: impl FnMut(&mut Self, &str, T),
    ) {
        self.array(topics, |out, (topic, partitions)| {
            out.string(topic);
            out.array(partitions, |out, one| partition(out, topic, one));
        });
    }

    /// How long the reader should wait, where its version is told: never.
    pub fn throttle(&mut self, is_there: bool) {
        if is_there {
            self.i32(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_length_takes_no_memory() {
        for announced in [i32::MAX, 4097, 5, -2] {
            let bytes = [&announced.to_be_bytes()[..], &[0; 4]].concat();
            assert_eq!(Reader(&bytes).array(Reader::i8), Err(Malformed), "{announced}");
            assert_eq!(Reader(&bytes).bytes(), Err(Malformed), "{announced}");
        }
        assert_eq!(Reader(&[0xff; 4]).nullable_array(Reader::i8), Ok(None));
        assert_eq!(Reader(&[0, 2, b'a', 0xff]).string(), Err(Malformed), "no UTF-8");
    }

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.array(["a", "bc"], Writer::string);
        writer.nullable(None);
        writer.bytes(b"xyz");
        writer.i64(-5);
        let mut reader = Reader(&writer.0);
        assert_eq!(reader.array(Reader::string), Ok(vec!["a", "bc"]));
        assert_eq!(reader.nullable(), Ok(None));
        assert_eq!((reader.bytes(), reader.i64()), (Ok(&b"xyz"[..]), Ok(-5)));
    }
}
