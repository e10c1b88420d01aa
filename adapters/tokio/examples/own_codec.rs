//! A codec of your own: the values of a service in postcard, a compact format of serde's.
//!
//! ```sh
//! cargo run -p getty-tokio --features rpc --example own_codec
//! ```

use std::error::Error;

use bytes::{Bytes, BytesMut};
use getty_tokio::rpc::{self, Codec, CodecError, CodecName, Decode, Encode, Sender, Services, Status};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The codec `postcard`, for the types of serde. Both sides must have it.
///
/// What a body costs is bounded by its length, but for types that contain themselves: postcard sets no limit
/// to how deep they are nested.
#[derive(Debug, Clone, Copy)]
pub struct Postcard;

impl Codec for Postcard {
    fn name(&self) -> CodecName {
        CodecName::new("postcard")
    }
}

impl<T: Serialize> Encode<T> for Postcard {
    fn encode(&self, value: &T, dst: &mut BytesMut) -> Result<(), CodecError> {
        // Into the memory that the call has, without a vector between.
        let memory = std::mem::take(dst);
        *dst = postcard::to_extend(value, memory).map_err(CodecError::new)?;
        Ok(())
    }
}

impl<T: DeserializeOwned> Decode<T> for Postcard {
    fn decode(&self, body: Bytes) -> Result<T, CodecError> {
        let (value, rest) = postcard::take_from_bytes(&body).map_err(CodecError::new)?;
        if rest.is_empty() { Ok(value) } else { Err(CodecError::new("expected one value, got more bytes")) }
    }
}

/// A weather station.
#[rpc::service(name = "weather.v1.Station", codec = Postcard)]
pub trait Station {
    /// Measures once.
    async fn measure(&self, sensor: u16) -> Result<Reading, Status>;

    /// Measures a number of times.
    async fn series(&self, series: (u16, u32), out: &mut Sender<Reading>) -> Result<(), Status>;
}

/// What a sensor has measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The number of the sensor.
    pub sensor: u16,
    /// Thousandths of a degree.
    pub millidegrees: i32,
}

/// A station whose sensors measure their number.
pub struct Numbers;

impl Station for Numbers {
    async fn measure(&self, sensor: u16) -> Result<Reading, Status> {
        match sensor {
            0 => Err(Status::not_found("the sensors begin with 1")),
            _ => Ok(Reading { sensor, millidegrees: -1000 * i32::from(sensor) }),
        }
    }

    async fn series(&self, (sensor, times): (u16, u32), out: &mut Sender<Reading>) -> Result<(), Status> {
        for _ in 0..times {
            out.send(self.measure(sensor).await?).await?;
        }
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (caller, driving) = rpc::in_memory(Services::new().add(StationService::new(Numbers)));
    tokio::spawn(driving);
    let station = StationClient::new(caller);
    println!("{:?}", station.measure(7).await?);
    let mut series = station.series((8, 3)).await?;
    while let Some(reading) = series.recv().await? {
        println!("{reading:?}");
    }
    Ok(())
}
