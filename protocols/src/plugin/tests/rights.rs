//! What a plug-in may and has.

use super::*;

/// Writes down what it has when it is asked for the first time.
const LOOKS: &str = r#"
seen = {
    "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")),
    "area": start["area"]["descriptor"],
    "environment": dict(os.environ), "cwd": os.getcwd(), "argv": sys.argv[1:],
    "session": os.getsid(0) == os.getpid() == os.getpgid(0),
    "status": open("/proc/self/status").read(), "limits": open("/proc/self/limits").read(),
    "settings": start["settings"], "asked": asked(),
}
open(trace + ".new", "w").write(json.dumps(seen))
os.rename(trace + ".new", trace)
opened(seen["asked"])
asked()
"#;

fn seen(script: &Script, plan: Plan, options: Options) -> serde_json::Value {
    let module = PluginProtocol::meet(plan).unwrap();
    with(module, async |module, lane| {
        drop(module.open_source(&SourceRequest { options, ..request() }, &lane).await.unwrap());
    });
    serde_json::from_slice(&fs::read(script.trace()).unwrap()).unwrap()
}

#[test]
fn it_has_what_it_needs_and_secrets_come_by_its_input_only() {
    let script = Script::running(LOOKS);
    let mut plan = script.plan();
    plan.settings = [("key".to_owned(), "s3cret".to_owned())].into();
    plan.launch.environment = [("EXTRA".to_owned(), "1".to_owned())].into();
    // Neither this nor anything else that a service has open.
    let left_open = rustix::io::dup(fs::File::open("/dev/null").unwrap()).unwrap();
    let options = Options::from([("token".to_owned(), "s3cret too".to_owned())]);
    let seen = seen(&script, plan, options);
    drop(left_open);
    assert_eq!(seen["descriptors"], serde_json::json!([0, 1, 2, seen["area"]]));
    // Whatever python3 is here may add some of its own.
    let environment = seen["environment"].as_object().unwrap();
    assert!(["EXTRA", "LANG", "PATH"].iter().all(|name| environment.contains_key(*name)), "{environment:?}");
    assert!(
        ["HOME", "USER", "CARGO_MANIFEST_DIR"].iter().all(|name| !environment.contains_key(*name)),
        "{environment:?}"
    );
    assert_eq!((seen["cwd"].as_str(), seen["session"].as_bool()), (Some("/"), Some(true)));
    let status = seen["status"].as_str().unwrap();
    assert!(status.contains("NoNewPrivs:\t1\n") && status.contains("CapAmb:\t0000000000000000\n"), "{status}");
    let limits = seen["limits"].as_str().unwrap();
    assert!(limits.contains("Max core file size        0 "), "{limits}");
    assert_eq!(seen["settings"]["key"], "s3cret");
    assert_eq!(seen["asked"]["options"]["token"], "s3cret too");
    assert!(!format!("{} {}", seen["environment"], seen["argv"]).contains("s3cret"));
}

#[test]
fn secrets_are_repeated_in_no_error() {
    let script = Script::running(
        r#"it = asked(); say({"id": it["id"], "error": {"code": "permission_denied", "message": "s3cret?"}}); asked()"#,
    );
    with(script.meet(), async |module, lane| {
        let options = Options::from([("token".to_owned(), "s3cret".to_owned())]);
        let request = SourceRequest { options, ..request() };
        let error = module.open_source(&request, &lane).await.err().unwrap();
        assert_eq!(error, Error::fatal(Code::PermissionDenied, "<redacted>?"));
    });
}

#[test]
fn it_ends_with_its_module() {
    let script = Script::running("open(trace, 'w').write(str(os.getpid()))\nopened(asked())\ntime.sleep(600)");
    with(script.meet(), async |module, lane| drop(open(&module, &lane).await.unwrap()));
    let pid = fs::read_to_string(script.trace()).unwrap();
    eventually("it is gone", || !is_alive(&pid));
}
