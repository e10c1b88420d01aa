//! The example of a service that a `.proto` file defines.

use std::path::Path;

use getty_codegen::Config;

#[expect(dead_code, reason = "its `main` is for the command line")]
#[path = "../../../../adapters/tokio/examples/greet/main.rs"]
mod greet;

#[test]
fn committed_code_is_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../adapters/tokio/examples/greet");
    let config = Config::new().out_dir(folder.join("generated"));
    config.check(&[folder.join("greet.proto")], &[folder]).unwrap();
}

#[tokio::test]
async fn it_greets() {
    let server = greet::serve("127.0.0.1:0").await.unwrap();
    let texts = greet::call(&server.local_addr().to_string(), vec!["Ann".into(), "Bob".into()]).await;
    let expected = ["good morning Ann", "good morning Bob", "hello Ann", "hello Bob"];
    assert_eq!(texts.unwrap(), expected);
    let error = greet::call(&server.local_addr().to_string(), vec![String::new()]).await.unwrap_err();
    assert!(error.to_string().contains("nobody to greet"), "{error}");
}
