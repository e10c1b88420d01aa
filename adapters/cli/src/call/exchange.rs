//! One call: values from the command line and standard input, answers to standard output.

use std::future::Future;
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use getty_driver::rpc::{Caller, Code, Executed, Receiver, Sender, Status};

use super::failure::not_executed;
use super::form::{Form, Printed};
use super::shape::Shape;
use super::terms::Terms;
use crate::stdio::{self, Cut, Output};

/// What is called, with what.
pub struct Exchange<'a> {
    pub method: &'a str,
    pub form: &'a Form,
    /// The value, for a method that takes one.
    pub value: Option<&'a str>,
    /// The longest line of standard input in bytes.
    pub limit: usize,
}

impl Exchange<'_> {
    /// Makes the call. Ends without an error when nobody reads standard output any longer.
    pub async fn run(
        &self,
        caller: &Caller,
        shape: Shape,
        terms: &Terms<'_>,
        output: &mut Output,
    ) -> Result<(), Status> {
        let (method, form) = (self.method.to_owned(), self.form.clone());
        if shape.takes_items() && self.value.is_some() {
            let text = "the method takes a stream: give its items as lines of standard input";
            return Err(not_executed(Code::InvalidArgument, text));
        }
        match shape {
            Shape::Unary => {
                let answer = terms.apply(caller.call(method, form, &self.body()?)).await?;
                print(answer, output).await;
            }
            Shape::OneWay => terms.apply(caller.one_way(method, form, &self.body()?)).await?,
            Shape::ServerStreaming => {
                let items = terms.apply(caller.server_streaming(method, form, &self.body()?)).await?;
                print_all(items, output).await?;
            }
            Shape::ClientStreaming => {
                let (sender, answer) = terms.apply(caller.client_streaming(method, form)).await?;
                let answer = while_sending(self.send_all(sender), answer).await?;
                print(answer, output).await;
            }
            Shape::BidiStreaming => {
                let (sender, items) = terms.apply(caller.bidi_streaming(method, form)).await?;
                while_sending(self.send_all(sender), print_all(items, output)).await?;
            }
        }
        Ok(())
    }

    /// The body of the value.
    fn body(&self) -> Result<Bytes, Status> {
        let value = self.value.unwrap_or(self.form.nothing());
        self.form.body(value.as_bytes()).map_err(|text| not_executed(Code::InvalidArgument, text))
    }

    /// Sends the lines of standard input, and ends the stream with them.
    async fn send_all(&self, mut sender: Sender<Bytes>) -> Result<(), Status> {
        let wrong = |text| Status::new(Code::InvalidArgument, text).with_executed(Executed::Maybe);
        let mut input = stdio::input::<Bytes>(Cut::Lines, self.limit);
        let mut number = 0_u64;
        while let Some(batch) = input.recv().await {
            for line in batch.map_err(wrong)? {
                number += 1;
                let item = self.form.body(&line);
                let item = item.map_err(|text| wrong(format!("line {number} of standard input: {text}")))?;
                if sender.send(item).await.is_err() {
                    return Ok(()); // the other half of the call says why it is over
                }
            }
        }
        Ok(())
    }
}

/// Waits for the end of a call while its items are sent.
async fn while_sending<T>(
    sending: impl Future<Output = Result<(), Status>>,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let (mut sending, mut call) = (pin!(sending), pin!(call));
    tokio::select! {
        biased;
        result = &mut call => return result,
        sent = &mut sending => sent?,
    }
    call.await
}

/// Prints items as they come, until the last one.
async fn print_all(mut items: Receiver<Printed>, output: &mut Output) -> Result<(), Status> {
    while let Some(item) = items.recv().await? {
        if !print(item, output).await {
            break;
        }
    }
    Ok(())
}

/// Prints a line. Returns false if nobody reads it.
async fn print(Printed(value): Printed, output: &mut Output) -> bool {
    let mut line = BytesMut::with_capacity(value.len() + 1);
    line.put_slice(&value);
    line.put_u8(b'\n');
    output.sender.send(line.freeze()).await.is_ok()
}
