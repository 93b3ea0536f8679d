import { createRoot } from "react-dom/client";
import { App } from "./shell/App";
import { applyTheme, theme } from "./core/session";
import "./styles.css";

applyTheme(theme());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => applyTheme(theme()));
createRoot(document.getElementById("root")!).render(<App />);
