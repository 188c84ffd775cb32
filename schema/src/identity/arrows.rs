//! High-rate facts as Arrow IPC streams: one table a file, the whole state first, then what changed.
//! In: blocks of a `table!` and who writes them. Out: bytes of a stream, and batches read back, up to a tear.
//! A row that is written again replaces the one before it: readers keep the last of each id.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::try_schema_from_ipc_buffer;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;

use crate::table::{Block, Table};

/// Version of these files; a reader accepts every version up to its own.
pub const ARROWS_VERSION: u32 = 1;

/// Who wrote a file, and when it was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub node: String,
    pub cluster: String,
    pub started_ns: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum ArrowsError {
    #[error("not a file of '{table}': {why}")]
    Stranger { table: &'static str, why: String },
    #[error("format {0} is newer than {ARROWS_VERSION}, which this program reads; use a newer one")]
    Newer(u32),
    #[error("damaged behind row {rows}: {why}; the rows before it are whole")]
    Damaged { rows: u64, why: String },
}

/// Writes one file.
pub struct Encoder {
    writer: StreamWriter<Vec<u8>>,
    table: &'static Table,
}

impl Encoder {
    pub fn new(table: &'static Table, head: &Head) -> Encoder {
        let Schema { fields, mut metadata } = table.schema();
        metadata.insert("sharkrec.arrows".to_owned(), ARROWS_VERSION.to_string());
        metadata.insert("sharkrec.node".to_owned(), head.node.clone());
        metadata.insert("sharkrec.cluster".to_owned(), head.cluster.clone());
        metadata.insert("sharkrec.started_ns".to_owned(), head.started_ns.to_string());
        let schema = Schema::new_with_metadata(fields, metadata);
        let writer = StreamWriter::try_new(Vec::new(), &schema).expect("a schema of a table can be written");
        Encoder { writer, table }
    }

    /// Takes the rows out of a block; those of all calls so far are whole in the stream up to here.
    pub fn append<B: Block>(&mut self, rows: &mut B) {
        let mut columns = Vec::new();
        rows.finish(&mut columns);
        let batch = self.table.batch(columns).expect("builders and schema come from one table");
        self.writer.write(&batch).expect("memory takes it");
    }

    /// Ends the stream; nothing may be appended after it.
    pub fn finish(&mut self) {
        self.writer.finish().expect("memory takes it");
    }

    /// Bytes since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.get_mut())
    }
}

/// Reads one file, batch by batch, in bounded memory.
pub struct Decoder<R: Read> {
    from: R,
    decoder: StreamDecoder,
    schema: SchemaRef,
    head: Head,
    rows: u64,
    ended: bool,
}

/// A batch is a second's worth of rows; a length beyond this is damage.
const MOST_BYTES: i64 = 256 << 20;

/// A row has a number or the end of a text in each of dozens of columns.
const LEAST_ROW_BYTES: i64 = 32;

impl<R: Read> Decoder<R> {
    /// Checks that it is a file of this table.
    pub fn new(table: &'static Table, mut from: R) -> Result<Decoder<R>, ArrowsError> {
        let stranger = |why: String| ArrowsError::Stranger { table: table.name, why };
        let mut decoder = StreamDecoder::new();
        let first =
            message(&mut from).map_err(stranger)?.ok_or_else(|| stranger("it is empty".to_owned()))?;
        let schema = guarded(|| try_schema_from_ipc_buffer(&first)).map_err(stranger)?;
        guarded(|| decoder.decode(&mut first.into())).map_err(stranger)?;
        let of = |key: &str| schema.metadata().get(key).cloned();
        match of("sharkrec.arrows").and_then(|text| text.parse().ok()) {
            Some(1..=ARROWS_VERSION) => {}
            Some(newer) => return Err(ArrowsError::Newer(newer)),
            None => return Err(stranger("it does not say that sharkrec wrote it".to_owned())),
        }
        let found = of("sharkq.table").unwrap_or_default();
        if found != table.name {
            return Err(stranger(format!("it is of '{found}'")));
        }
        let id = table.columns().next().expect("a table has columns").name;
        if schema.field_with_name(id).is_err() {
            return Err(stranger(format!("it lacks the column {id}")));
        }
        for column in table.columns() {
            // An earlier version has fewer columns, never other ones.
            let field = schema.field_with_name(column.name);
            if field.is_ok_and(|field| *field.data_type() != (column.data_type)()) {
                return Err(stranger(format!("column {} is of another type", column.name)));
            }
        }
        let head = Head {
            node: of("sharkrec.node").unwrap_or_default(),
            cluster: of("sharkrec.cluster").unwrap_or_default(),
            started_ns: of("sharkrec.started_ns").and_then(|text| text.parse().ok()).unwrap_or_default(),
        };
        Ok(Decoder { from, decoder, schema: schema.into(), head, rows: 0, ended: false })
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Of the file: that of the table, or of an earlier version of it.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>, String> {
        while let Some(bytes) = message(&mut self.from)? {
            if let Some(batch) = guarded(|| self.decoder.decode(&mut bytes.into()))? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}

impl<R: Read> Iterator for Decoder<R> {
    type Item = Result<RecordBatch, ArrowsError>;

    /// A stream that is torn ends in an error, behind all its whole batches.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let found = self.batch();
        self.ended = !matches!(found, Ok(Some(_)));
        self.rows += found.as_ref().ok().and_then(Option::as_ref).map_or(0, |batch| batch.num_rows() as u64);
        found.map_err(|why| ArrowsError::Damaged { rows: self.rows, why }).transpose()
    }
}

/// Arrow checks most of what it reads, and panics at some of the rest: damage is to be an error.
fn guarded<T>(read: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("it is not what Arrow would write".to_owned()),
    }
}

/// How many of these bytes are whole messages from the start: what is worth keeping of a file that is torn.
pub fn whole(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let mut whole = 0;
    while let Ok(Some(_)) = message(&mut rest) {
        whole = bytes.len() - rest.len();
    }
    whole
}

/// What stands at the end of a stream.
pub const END: [u8; 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];

/// One whole message with its frame (Arrow columnar format, "encapsulated message format"); None at the end of the stream.
/// Its lengths are checked before anything is allocated for them.
fn message(from: &mut impl Read) -> Result<Option<Vec<u8>>, String> {
    let mut frame = [0; 8];
    let torn = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends in the middle of a message".to_owned(),
        _ => error.to_string(),
    };
    from.read_exact(&mut frame).map_err(torn)?;
    let [a, b, c, d, rest @ ..] = frame;
    let length = u32::from_le_bytes(rest);
    if [a, b, c, d] != [0xFF; 4] || length > MOST_BYTES as u32 {
        return Err("no message begins where one should".to_owned());
    }
    if length == 0 {
        return Ok(None);
    }
    let mut bytes = frame.to_vec();
    more(from, &mut bytes, length.into()).map_err(torn)?;
    let message = arrow::ipc::root_as_message(&bytes[8..]).map_err(|error| error.to_string())?;
    let body = message.bodyLength();
    if !(0..=MOST_BYTES).contains(&body) {
        return Err(format!("a message of {body} bytes"));
    }
    if message.header_type() == arrow::ipc::MessageHeader::DictionaryBatch {
        return Err("a dictionary, of which no table has one".to_owned());
    }
    if let Some(batch) = message.header_as_record_batch() {
        // What a batch becomes in memory is bounded by its bytes: they are packed by the file, never by
        // themselves.
        if batch.compression().is_some() {
            return Err("a batch that is compressed by itself".to_owned());
        }
        if !(0..=body / LEAST_ROW_BYTES).contains(&batch.length()) {
            return Err(format!("a batch of {} rows in {body} bytes", batch.length()));
        }
    }
    more(from, &mut bytes, body.unsigned_abs()).map_err(torn)?;
    Ok(Some(bytes))
}

fn more(from: &mut impl Read, bytes: &mut Vec<u8>, length: u64) -> io::Result<()> {
    match from.take(length).read_to_end(bytes)? as u64 == length {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::IpcWriteOptions;

    use std::sync::Arc;

    use super::*;
    use crate::tables::processes::{self, ProcessBlock, ProcessRow};
    use crate::tables::sockets;

    fn file(end: bool) -> Vec<u8> {
        let head = Head { node: "n1".into(), cluster: String::new(), started_ns: 7 };
        let mut encoder = Encoder::new(&processes::TABLE, &head);
        for round in 0..3 {
            let mut rows = ProcessBlock::default();
            for pid in 0..5 {
                let comm = format!("p{pid}");
                let pid = Some(10 * round + pid);
                rows.append(&ProcessRow { pid, comm: Some(&comm), start_ts: Some(5), ..Default::default() });
            }
            encoder.append(&mut rows);
        }
        if end {
            encoder.finish();
        }
        encoder.take()
    }

    fn pids(bytes: &[u8]) -> (Vec<i32>, Option<ArrowsError>) {
        let (mut pids, mut error) = (Vec::new(), None);
        for batch in Decoder::new(&processes::TABLE, bytes).expect("a head") {
            match batch {
                Ok(batch) => {
                    let column = batch.column_by_name("pid").expect("a column");
                    pids.extend(column.as_primitive::<arrow::datatypes::Int32Type>().values());
                }
                Err(damage) => error = Some(damage),
            }
        }
        (pids, error)
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = file(true);
        let decoder = Decoder::new(&processes::TABLE, &bytes[..]).unwrap();
        assert_eq!((decoder.head().node.as_str(), decoder.head().started_ns), ("n1", 7));
        let (found, error) = pids(&bytes);
        assert_eq!(found, [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24]);
        assert!(error.is_none());
        let other = Decoder::new(&sockets::TABLE, &bytes[..]).err().unwrap();
        assert!(other.to_string().contains("it is of 'processes'"), "{other}");
        assert!(Decoder::new(&processes::TABLE, &b"nothing of the kind"[..]).is_err());
        assert!(Decoder::new(&processes::TABLE, &[][..]).is_err());
    }

    #[test]
    fn a_torn_file_gives_all_whole_batches() {
        let bytes = file(false);
        assert!(
            matches!(pids(&bytes), (all, Some(ArrowsError::Damaged { rows: 15, .. })) if all.len() == 15)
        );
        let mut whole = std::collections::BTreeSet::new();
        for length in 0..bytes.len() {
            let kept = [&bytes[..super::whole(&bytes[..length])], &END].concat();
            let Ok(decoder) = Decoder::new(&processes::TABLE, &bytes[..length]) else { continue };
            assert!(Decoder::new(&processes::TABLE, &kept[..]).unwrap().all(|batch| batch.is_ok()));
            let rows: usize = decoder.map_while(Result::ok).map(|batch| batch.num_rows()).sum();
            whole.insert(rows);
        }
        assert!(whole.into_iter().eq([0, 5, 10]), "a tear costs the batch it is in");
    }

    /// A file of a schema, with what its head has, and of these columns.
    fn made(columns: Vec<(&str, arrow::array::ArrayRef)>, options: IpcWriteOptions) -> Vec<u8> {
        let fields = columns
            .iter()
            .map(|(name, of)| arrow::datatypes::Field::new(*name, of.data_type().clone(), true));
        let metadata = [("sharkrec.arrows", "1"), ("sharkq.table", "processes")];
        let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()).with_metadata(metadata));
        let rows = columns.into_iter().map(|(_, of)| of).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), rows).expect("columns of one length");
        let mut writer =
            StreamWriter::try_new_with_options(Vec::new(), &schema, options).expect("it can be written");
        writer.write(&batch).expect("memory takes it");
        writer.into_inner().expect("memory takes it")
    }

    #[test]
    fn batches_that_would_be_larger_in_memory_are_refused() {
        let ids = |rows: usize| -> arrow::array::ArrayRef {
            Arc::new(arrow::array::StringArray::from_iter_values((0..rows).map(|row| row.to_string())))
        };
        let refusal = |bytes: Vec<u8>| {
            let mut batches = Decoder::new(&processes::TABLE, &bytes[..]).expect("a head");
            let refusal = batches.next().expect("a batch").expect_err("it is refused").to_string();
            assert!(batches.next().is_none());
            refusal
        };
        let compressed = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD));
        let bytes = made(vec![("proc_id", ids(1_000))], compressed.expect("the feature is there"));
        assert!(refusal(bytes).contains("a batch that is compressed by itself"));
        let nothing: arrow::array::ArrayRef = Arc::new(arrow::array::NullArray::new(100_000));
        let bytes = made(vec![("proc_id", ids(100_000)), ("more", nothing)], IpcWriteOptions::default());
        assert!(refusal(bytes).contains("a batch of 100000 rows in"));
        let words: arrow::array::DictionaryArray<arrow::datatypes::Int8Type> =
            ["a", "b"].into_iter().collect();
        let bytes = made(vec![("proc_id", ids(2)), ("more", Arc::new(words))], IpcWriteOptions::default());
        assert!(refusal(bytes).contains("a dictionary"));
        let bytes = made(
            vec![("pid", Arc::new(arrow::array::Int32Array::from(vec![1])))],
            IpcWriteOptions::default(),
        );
        let stranger = Decoder::new(&processes::TABLE, &bytes[..]).err().expect("it is refused");
        assert!(stranger.to_string().contains("it lacks the column proc_id"), "{stranger}");
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let bytes = file(true);
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut random = |most: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize % most
        };
        let mut readable = 0;
        for _ in 0..2_000 {
            let mut damaged = bytes.clone();
            for _ in 0..=random(4) {
                let at = random(damaged.len());
                damaged[at] = random(256) as u8;
            }
            if let Ok(decoder) = Decoder::new(&processes::TABLE, &damaged[..]) {
                readable += 1;
                decoder.for_each(drop);
            }
        }
        assert!(readable > 100, "{readable} of 2,000 were read into");
    }
}
