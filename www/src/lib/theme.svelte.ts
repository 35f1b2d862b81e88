// Light, dark, or as the system has it. The choice is kept in this browser; colours follow `color-scheme` in CSS.

export const themes = ["system", "light", "dark"] as const;
export type Theme = (typeof themes)[number];

const KEY = "tinkex-theme";
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

class ThemeChoice {
  #choice = $state<Theme>(stored());
  #systemIsDark = $state(systemIsDark.matches);

  constructor() {
    systemIsDark.addEventListener("change", ({ matches }) => (this.#systemIsDark = matches));
    apply(this.#choice);
  }

  get choice(): Theme {
    return this.#choice;
  }

  set choice(theme: Theme) {
    this.#choice = theme;
    apply(theme);
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // A browser that stores nothing still shows the theme until the page is closed.
    }
  }

  /** What is shown now: for what CSS can't reach, as a canvas. */
  get shown(): "light" | "dark" {
    if (this.#choice !== "system") return this.#choice;
    return this.#systemIsDark ? "dark" : "light";
  }
}

function stored(): Theme {
  try {
    return themes.find((theme) => theme === localStorage.getItem(KEY)) ?? "system";
  } catch {
    return "system";
  }
}

function apply(theme: Theme): void {
  document.documentElement.dataset["theme"] = theme;
}

export const theme = new ThemeChoice();
