import { useEffect, useState } from "react";
import { get, signIn } from "../core/api";
import { useAttempt } from "../core/attempt";
import { Button, Fault, Field } from "../ui/basics";

export function SignIn({ onDone }: { onDone: () => void }) {
  const [name, setName] = useState("admin");
  const [password, setPassword] = useState("");
  const { busy, fault, attempt } = useAttempt();
  const [ways, setWays] = useState<{ name: string; url: string }[]>([]);
  useEffect(() => {
    document.title = "Sign in · Shoal";
    get("/api/initial-data").then((about) => setWays(about.sign_in ?? []), () => undefined);
  }, []);
  const submit = (event: React.FormEvent) => {
    event.preventDefault();
    void attempt(async () => {
      await signIn(name, password);
      onDone();
    });
  };
  return (
    <main className="sign-in">
      <form onSubmit={submit} aria-label="Sign in">
        <div className="mark">
          <img src="/shoal.svg" alt="" />
          <div>
            <h1>Shoal</h1>
            <p className="muted">Sign in to the controller</p>
          </div>
        </div>
        {fault && <Fault error={fault} />}
        <Field label="User name" htmlFor="user">
          <input id="user" autoComplete="username" autoCapitalize="none" required value={name} onChange={(event) => setName(event.target.value)} />
        </Field>
        <Field label="Password" htmlFor="password">
          {/* The only field one has come here for. */}
          <input id="password" type="password" autoComplete="current-password" required autoFocus value={password} onChange={(event) => setPassword(event.target.value)} />
        </Field>
        <Button kind="primary" type="submit" busy={busy}>Sign in</Button>
        {ways.map((way) => (
          <a key={way.name} className="button" href={way.url}>Sign in with {way.name}</a>
        ))}
      </form>
    </main>
  );
}
