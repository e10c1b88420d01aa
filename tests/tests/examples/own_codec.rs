//! The example of a codec of one's own, with postcard's own functions as the oracle of the bytes.

use getty_driver::rpc::{Code, CodecName, Decode, Encode, Services};
use getty_tokio::rpc;

#[expect(dead_code, reason = "its `main` is for the command line")]
#[path = "../../../adapters/tokio/examples/own_codec.rs"]
mod example;

use example::{Numbers, Postcard, Reading, StationClient, StationService};

#[tokio::test]
async fn values_go_as_postcard_writes_them() {
    let (caller, driving) = rpc::in_memory(Services::new().add(StationService::new(Numbers)));
    tokio::spawn(driving);
    let station = StationClient::new(caller.clone());
    let reading = Reading { sensor: 7, millidegrees: -7000 };
    assert_eq!(station.measure(7).await.unwrap(), reading);
    assert_eq!(station.measure(0).await.unwrap_err().code(), Code::NotFound);
    let mut series = station.series((7, 3)).await.unwrap();
    for _ in 0..3 {
        assert_eq!(series.recv().await.unwrap(), Some(reading.clone()));
    }
    assert_eq!(series.recv().await.unwrap(), None);

    let mut written = bytes::BytesMut::from(&b"before"[..]);
    Postcard.encode(&reading, &mut written).unwrap();
    assert_eq!(written, [b"before", &postcard::to_allocvec(&reading).unwrap()[..]].concat());
    assert_eq!(Postcard.decode(written.split_off(6).freeze()).as_ref(), Ok(&reading));
    let longer = [&postcard::to_allocvec(&reading).unwrap()[..], b"\0"].concat();
    assert!(Decode::<Reading>::decode(&Postcard, longer.into()).is_err());
    assert_eq!(rpc::Codec::name(&Postcard), CodecName::new("postcard"));
    // Others learn which codec there is.
    let answer: Result<String, _> = caller.call("weather.v1.Station/measure", rpc::Raw, "x").await;
    let text = "weather.v1.Station/measure is served with the codec postcard, not with raw";
    assert_eq!(answer.unwrap_err().message(), text);
}
