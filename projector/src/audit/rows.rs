//! Reads rows of a table in order of offset, as COPY sends them.

use std::pin::Pin;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio_postgres::{Client, CopyOutStream};
use walengine_net::model::PartitionId;

use crate::copy::HEADER;
use crate::database::{Database, columns, within};
use crate::fatal::{Fatal, Reason};
use crate::tables::Table;
use crate::trouble::Trouble;

/// Bytes of the number of fields, and of the length of a field.
const COUNT_BYTES: usize = 2;
const LENGTH_BYTES: usize = 4;

/// A row as it was received.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its bytes, including the number of fields.
    pub bytes: Bytes,
    /// Offset of its record.
    pub offset: i64,
}

/// Stream of the rows of one table of one partition.
pub struct TableRows {
    stream: Pin<Box<CopyOutStream>>,
    buffer: BytesMut,
    table: Table,
    has_begun: bool,
    next: Option<Row>,
}

impl TableRows {
    /// Begins to read. The connection is in the transaction whose snapshot is read.
    pub async fn begin(
        database: &Database,
        client: &Client,
        table: Table,
        partition: PartitionId,
    ) -> Result<Self, Trouble> {
        let copy = format!(
            "COPY (SELECT {} FROM {} ORDER BY log_offset) TO STDOUT (FORMAT binary)",
            columns(&table),
            database.part(table.name, partition)
        );
        let stream = Box::pin(within(client.copy_out(&copy)).await?);
        let buffer = BytesMut::new();
        Ok(Self { stream, buffer, table, has_begun: false, next: None })
    }

    /// The next row, without taking it.
    pub async fn peek(&mut self) -> Result<Option<&Row>, Trouble> {
        if self.next.is_none() {
            self.next = self.read().await?;
        }
        Ok(self.next.as_ref())
    }

    /// Takes the row that [`Self::peek`] returned.
    pub fn take(&mut self) -> Option<Row> {
        self.next.take()
    }

    async fn read(&mut self) -> Result<Option<Row>, Trouble> {
        loop {
            if !self.has_begun && self.buffer.len() >= HEADER.len() {
                self.buffer.advance(HEADER.len());
                self.has_begun = true;
            }
            if self.has_begun {
                match row_bytes(&self.buffer) {
                    Found::Row(bytes) => {
                        let bytes = self.buffer.split_to(bytes).freeze();
                        let offset = self.offset(&bytes)?;
                        return Ok(Some(Row { bytes, offset }));
                    }
                    Found::End => return Ok(None),
                    Found::Part => {}
                }
            }
            let more = async { self.stream.next().await.transpose() };
            match within(more).await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }

    fn offset(&self, row: &[u8]) -> Result<i64, Trouble> {
        let place = self.table.columns.iter().position(|(name, _)| *name == "log_offset");
        let field = place.and_then(|place| fields(row).nth(place)).flatten();
        let bytes = field.and_then(|field| <[u8; 8]>::try_from(field).ok());
        bytes.map(i64::from_be_bytes).ok_or_else(|| {
            let message = format!("a row of {} has no log_offset", self.table.name);
            Fatal::new(Reason::Schema, message).into()
        })
    }
}

enum Found {
    /// A row with this number of bytes.
    Row(usize),
    /// The trailer.
    End,
    /// Less than a row.
    Part,
}

fn row_bytes(buffer: &[u8]) -> Found {
    let Some(count) = buffer.first_chunk::<COUNT_BYTES>() else { return Found::Part };
    let Ok(count) = usize::try_from(i16::from_be_bytes(*count)) else { return Found::End };
    let mut end = COUNT_BYTES;
    for _ in 0..count {
        let Some(length) = buffer.get(end..).and_then(<[u8]>::first_chunk::<LENGTH_BYTES>) else {
            return Found::Part;
        };
        // A negative length means null, which has no bytes.
        end += LENGTH_BYTES + usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
    }
    if end <= buffer.len() { Found::Row(end) } else { Found::Part }
}

/// Fields of a complete row; `None` is null.
pub fn fields(row: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = row.get(COUNT_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            rest = behind;
            return Some(None);
        };
        let (field, behind) = behind.split_at_checked(length)?;
        rest = behind;
        Some(Some(field))
    })
}
