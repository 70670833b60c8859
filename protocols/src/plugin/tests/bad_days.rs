//! What plug-ins do that none should: nobody waits for ever, nothing else breaks, and the next try finds a new one.

use super::*;

/// Answers everything as it should, but for what the script in front of it does.
const WELL: &str = r#"
while True:
    it = asked()
    if it["do"] == "open": opened(it)
    elif it["do"] == "read": read(it)
    elif it["do"] == "revalidate": say({"id": it["id"], "validator": "v"})
    elif "id" in it: say({"id": it["id"]})
"#;

/// The script does its worst the first time that it is asked to read, and well whenever it is started again.
fn once(worst: &str) -> Script {
    let script = format!(
        r#"
if not os.path.exists(trace):
    opened(asked())
    it = asked()
    open(trace, "w").write(str(os.getpid()))
    {worst}
{WELL}"#
    );
    Script::running(&script)
}

/// The first read fails in this way, and another one of the same source succeeds with a new process.
fn fails_once(worst: &str, code: Code, why: &str) {
    let script = once(worst);
    with(script.meet_impatiently(), async |module, lane| {
        let source = open(&module, &lane).await.unwrap();
        let error = read(&source, &lane, SIZE).await.unwrap_err();
        assert_eq!((error.code, error.disposition), (code, crate::Disposition::Retry { after: None }), "{error}");
        assert!(error.message.contains("test") && error.message.contains(why), "{error}");
        assert!(!is_alive(&fs::read_to_string(script.trace()).unwrap()) || code == Code::ProtocolViolation);
        assert_eq!(read(&source, &lane, SIZE).await, Ok(SIZE as usize), "the next try");
        source.revalidate().await.unwrap();
    });
}

#[test]
fn one_that_hangs_is_killed_and_started_again() {
    fails_once("time.sleep(600)", Code::ConnectionLost, "did not answer `read` within 500ms");
}

#[test]
fn one_that_crashes_in_mid_read_is_started_again() {
    fails_once("os.pwrite(start['area']['descriptor'], b'y', 0); os.abort()", Code::ConnectionLost, "ended (signal: 6");
}

#[test]
fn one_that_closes_its_output_is_started_again() {
    fails_once("os.close(1); time.sleep(600)", Code::ConnectionLost, "closed its output");
}

#[test]
fn a_line_without_end_ends_it() {
    let flood = "\n    while True: os.write(1, b'x' * 65536)";
    fails_once(flood, Code::ConnectionLost, "wrote a line of more than 65536 bytes");
}

#[test]
fn garbage_ends_it() {
    fails_once("print('what?', flush=True); time.sleep(600)", Code::ConnectionLost, "not understood");
    fails_once(
        "say({'id': 999, 'length': 1}); time.sleep(600)",
        Code::ConnectionLost,
        "answered 999, which was not asked",
    );
    fails_once("say({'id': it['id'], 'lenght': 1}); time.sleep(600)", Code::ConnectionLost, "lenght");
}

#[test]
fn one_that_says_that_it_gave_more_than_was_asked_for_ends() {
    let more = "say({'id': it['id'], 'length': it['length'] + 1}); time.sleep(600)";
    fails_once(more, Code::ProtocolViolation, "gave 4194305 bytes where 4194304 were asked for");
}

#[test]
fn children_are_killed_with_it() {
    let script = once("os.fork() or (open(trace, 'w').write(str(os.getpid())), time.sleep(600)); time.sleep(600)");
    with(script.meet_impatiently(), async |module, lane| {
        let source = open(&module, &lane).await.unwrap();
        read(&source, &lane, SIZE).await.unwrap_err();
        let child = fs::read_to_string(script.trace()).unwrap();
        eventually("the child is gone", || !is_alive(&child));
    });
}

#[test]
fn one_that_reads_nothing_is_killed_when_it_should_have_answered() {
    let script = Script::running("time.sleep(600)");
    with(script.meet_impatiently(), async |module, lane| {
        let error = open(&module, &lane).await.err().unwrap();
        assert_eq!(error.code, Code::ConnectionLost, "{error}");
    });
}

#[test]
fn what_is_canceled_is_not_waited_for_and_one_that_ignores_it_is_killed() {
    let script = once("[time.sleep(1) for _ in range(600)]");
    let mut plan = script.plan();
    plan.patience.cancel = IMPATIENCE;
    with(PluginProtocol::meet(plan).unwrap(), async |module, lane| {
        let mut request = request();
        let source = module.open_source(&request, &lane).await.unwrap();
        let interrupt = std::mem::take(&mut request.interrupt);
        let canceler = std::thread::spawn({
            let trace = script.trace();
            move || {
                eventually("it is asked", || fs::read_to_string(&trace).is_ok_and(|pid| !pid.is_empty()));
                interrupt.raise();
            }
        });
        let error = read(&source, &lane, SIZE).await.unwrap_err();
        assert_eq!(error, Error::canceled());
        canceler.join().unwrap();
        let pid = fs::read_to_string(script.trace()).unwrap();
        eventually("it is killed", || !is_alive(&pid));
        let again = open(&module, &lane).await.unwrap();
        assert_eq!(read(&again, &lane, SIZE).await, Ok(SIZE as usize), "others are served by a new one");
    });
}

#[test]
fn one_that_hears_of_a_cancel_and_answers_stays() {
    let script = once("cancel = asked(); assert cancel == {'do': 'cancel', 'request': it['id']}; read(it)");
    with(script.meet(), async |module, lane| {
        let request = request();
        let source = module.open_source(&request, &lane).await.unwrap();
        let (interrupt, trace) = (request.interrupt.clone(), script.trace());
        let canceler = std::thread::spawn(move || {
            eventually("it is asked", || fs::read_to_string(&trace).is_ok_and(|pid| !pid.is_empty()));
            interrupt.raise();
        });
        assert_eq!(read(&source, &lane, SIZE).await, Err(Error::canceled()));
        canceler.join().unwrap();
        let again = open(&module, &lane).await.unwrap();
        assert_eq!(read(&again, &lane, SIZE).await, Ok(SIZE as usize));
        assert!(is_alive(&fs::read_to_string(script.trace()).unwrap()), "it is the same process");
    });
}

#[test]
fn another_version_behind_a_restart_or_a_pin_is_a_change() {
    let script = Script::running(
        r#"
version = "2" if os.path.exists(trace) else "1"
open(trace, "w")
while True:
    it = asked()
    if it["do"] == "open": say({"id": it["id"], "size": 5000000, "validator": version})
    elif version == "1": sys.exit()
    elif "id" in it: say({"id": it["id"]})
"#,
    );
    with(script.meet(), async |module, lane| {
        let source = open(&module, &lane).await.unwrap();
        assert_eq!(read(&source, &lane, 10).await.unwrap_err().code, Code::ConnectionLost);
        let error = read(&source, &lane, 10).await.unwrap_err();
        assert_eq!(error.disposition, crate::Disposition::SourceChanged, "{error}");
        let pinned = source.object().validator.clone();
        let lied_to = SourceRequest { pinned, ..request() };
        let error = module.open_source(&lied_to, &lane).await.err().unwrap();
        assert_eq!(error.disposition, crate::Disposition::SourceChanged, "whatever the plug-in thinks: {error}");
    });
}

#[test]
fn a_size_that_is_a_lie_is_an_error_and_no_object() {
    let script = Script::running(
        r#"
while True:
    it = asked()
    if it["do"] == "open": opened(it)
    elif it["do"] == "read": say({"id": it["id"], "length": 7})
    else: say({"id": it["id"], "validator": "v"} if "id" in it and it["do"] == "revalidate" else {"id": it["id"]})
"#,
    );
    with(script.meet(), async |module, lane| {
        let source = open(&module, &lane).await.unwrap();
        let error = read(&source, &lane, SIZE).await.unwrap_err();
        assert_eq!(error.code, Code::ReadFailed, "{error}");
        assert!(error.message.contains("gave 7 of 5000000 bytes"), "{error}");
    });
}

#[test]
fn one_that_dies_whenever_it_is_started_rests_longer_each_time() {
    // It says hello, so that it is taken.
    let script = Script::new("say(hello); sys.exit(3)");
    with(script.meet(), async |module, lane| {
        let mut rested = 0;
        for _ in 0..50 {
            let error = open(&module, &lane).await.err().unwrap();
            match error.disposition {
                crate::Disposition::Retry { after: Some(wait) } => {
                    assert_eq!(error.code, Code::ConnectFailed);
                    assert!(error.message.contains("ended (exit status: 3)"), "{error}");
                    rested += 1;
                    std::thread::sleep(wait);
                }
                _ => assert_eq!(error.code, Code::ConnectionLost, "{error}"),
            }
            if rested == 3 {
                return;
            }
        }
        panic!("it never rested");
    });
}

#[test]
fn one_that_says_hello_in_another_way_the_second_time_is_not_used() {
    let script = Script::new(
        r#"
trace = sys.argv[0] + ".trace"
say({**hello, "source": "sequential"} if os.path.exists(trace) else hello)
open(trace, "w")
asked()
"#,
    );
    with(script.meet(), async |module, lane| {
        let error = open(&module, &lane).await.err().unwrap();
        assert!(error.message.contains("says hello in another way"), "{error}");
    });
}

#[test]
fn one_that_cannot_be_used_is_refused_with_the_reason() {
    for (script, why) in [
        ("sys.exit(3)", "ended (exit status: 3)"),
        ("time.sleep(600)", "did not say hello within 500ms"),
        ("print('hello', flush=True); time.sleep(600)", "not understood"),
        ("say({**hello, 'source': 'teleport'}); time.sleep(600)", "teleport"),
        ("say({**hello, 'protocol': 2}); time.sleep(600)", "speaks version 2"),
        ("os.write(1, b'x' * 70000); time.sleep(600)", "wrote a line of more than"),
    ] {
        let script = Script::new(script);
        let mut plan = script.plan();
        if why.contains("500ms") {
            plan.patience.hello = IMPATIENCE;
        }
        let refusal = PluginProtocol::meet(plan).err().unwrap();
        assert!(refusal.contains(why), "{refusal}");
    }
    let refusal = PluginProtocol::meet(plan(Path::new("/nothing/there"))).err().unwrap();
    assert_eq!(refusal, "cannot be started: there is no such file");
}
