//! [`LastTime`]: decodes times.

use chrono::DateTime;
use es_core::Timestamp;

use super::error::RecordError;

/// The last time, in microseconds and decoded. The events of a commit have the same time, and decoding a date is slow.
#[derive(Debug, Default)]
pub(crate) struct LastTime(Option<(i64, Timestamp)>);

impl LastTime {
    /// Decodes a time. `field` is the field of the record, for errors.
    ///
    /// # Errors
    /// [`RecordError::Time`] if it is out of range.
    pub(crate) fn get(&mut self, field: &'static str, micros: i64) -> Result<Timestamp, RecordError> {
        match self.0 {
            Some((last, time)) if last == micros => Ok(time),
            _ => {
                let time = DateTime::from_timestamp_micros(micros).ok_or(RecordError::Time { field, found: micros })?;
                self.0 = Some((micros, time));
                Ok(time)
            }
        }
    }
}
