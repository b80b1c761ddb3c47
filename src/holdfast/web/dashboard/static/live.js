// Makes pages live: a stream tells that something changed, and the page asks for itself again; where there is no stream it
// asks now and then. What is being used (a field, a dialog, a selection) is left alone meanwhile.
(() => {
    "use strict";
    const LEAST = 1500, POLL = 5000, OLD = 20000;
    const $ = (selector, from = document) => from.querySelector(selector);
    const pulse = $("#pulse"), said = $("#pulse-said"), body = document.body;
    const isLive = () => $("main")?.dataset.live === "yes";
    let source = null, seenAt = Date.now(), askedAt = 0, wanted = false, asking = false, paused = false, failed = 0;

    // Times ------------------------------------------------------------------------------------------------------
    const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
    const ago = (seconds) => {
        const size = Math.abs(seconds);
        if (size < 1) return "just now";
        const [unit, name] = UNITS.find(([unit]) => size >= unit);
        const text = `${Math.floor(size / unit)} ${name}`;
        return seconds >= 0 ? `${text} ago` : `in ${text}`;
    };
    const skew = Date.now() - Date.parse(body.dataset.now);
    const write = (element, text) => { if (element.textContent !== text) element.textContent = text; };
    const tick = () => {
        const now = Date.now() - skew;
        for (const time of document.querySelectorAll("time[datetime]")) {
            write(time, ago((now - Date.parse(time.dateTime)) / 1000));
        }
        show();
    };

    // What the page says of itself --------------------------------------------------------------------------------
    const show = () => {
        if (!pulse) return;
        const age = Math.round((Date.now() - seenAt) / 1000);
        const state = paused ? "paused" : failed > 1 ? "disconnected" : "live";
        const text = paused ? `paused, updated ${age} s ago`
            : failed > 1 ? `disconnected, updated ${age} s ago` : `updated ${age < 2 ? "just now" : `${age} s ago`}`;
        write($("#pulse-text"), text);
        if (pulse.dataset.state !== state) {
            pulse.dataset.state = state;
            write(said, state === "live" ? "Live updates" : state);
        }
    };

    // Asking again ------------------------------------------------------------------------------------------------
    const inUse = () => {
        const main = $("main"), focus = document.activeElement, chosen = getSelection();
        return $("dialog[open]") || (focus?.matches("input:not([type=checkbox]), select, textarea") && main.contains(focus))
            || (chosen && !chosen.isCollapsed && main.contains(chosen.anchorNode));
    };
    const ask = () => {
        if (!isLive() || paused || document.hidden || asking || inUse()) return;
        if (Date.now() - askedAt < LEAST) return;
        wanted = false; asking = true; askedAt = Date.now();
        htmx.trigger($("main"), "refresh");
    };
    document.addEventListener("htmx:after:request", (event) => {
        const status = event.detail?.ctx?.response?.raw?.status ?? event.detail?.ctx?.response?.status ?? 0;
        asking = false;
        if (status === 401 || (event.detail?.ctx?.response?.raw?.redirected)) { location.reload(); return; }
        if (status >= 200 && status < 300) { failed = 0; seenAt = Date.now(); } else { failed += 1; }
        show();
    });
    document.addEventListener("htmx:before:swap", (event) => {
        const status = event.detail?.ctx?.response?.raw?.status ?? 200;
        if (status >= 400) event.preventDefault(); // what was seen before is worth more than an error in its place
    });
    document.addEventListener("htmx:error", () => { asking = false; failed += 1; show(); });
    document.addEventListener("htmx:after:swap", () => { tick(); });

    const open = () => {
        if (!isLive() || source || paused || document.hidden || !window.EventSource) return;
        source = new EventSource(body.dataset.events);
        source.addEventListener("open", () => { failed = 0; ask(); show(); });
        source.addEventListener("change", () => { wanted = true; ask(); });
        source.addEventListener("error", () => {
            failed += 1;
            if (source && source.readyState === EventSource.CLOSED) close();
            show();
        });
    };
    const close = () => { source?.close(); source = null; };
    setInterval(() => {
        tick();
        if (!isLive() || paused || document.hidden) return;
        const streams = source && source.readyState === EventSource.OPEN;
        if (wanted || Date.now() - seenAt > (streams ? OLD : POLL)) ask();
        if (!source && Date.now() % 10 < 1) open();
    }, 1000);
    setInterval(open, 10000);
    document.addEventListener("visibilitychange", () => {
        if (document.hidden) close(); else { open(); wanted = true; ask(); }
    });
    window.addEventListener("pagehide", close);

    // Buttons -----------------------------------------------------------------------------------------------------
    document.addEventListener("click", (event) => {
        const target = event.target.closest("[data-do]");
        if (!target) return;
        const what = target.dataset.do;
        if (what === "pause") {
            paused = !paused;
            target.setAttribute("aria-pressed", String(paused));
            if (paused) close(); else { open(); wanted = true; ask(); }
            show();
        } else if (what === "theme") {
            const root = document.documentElement;
            const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
            root.dataset.theme = isDark ? "light" : "dark";
            try { localStorage.setItem("holdfast-theme", root.dataset.theme); } catch { /* for this page only, then */ }
        } else if (what === "copy") {
            copy(target.dataset.text, target);
        } else if (what === "close") {
            target.closest("dialog").close();
        } else if (what === "hide") {
            target.parentElement.remove();
        }
    });
    const copy = async (text, button) => {
        try {
            await navigator.clipboard.writeText(text);
        } catch { // over plain HTTP there is no clipboard
            const field = document.createElement("textarea");
            field.value = text;
            button.after(field);
            field.select();
            document.execCommand("copy");
            field.remove();
            button.focus();
        }
        button.dataset.state = "done";
        setTimeout(() => delete button.dataset.state, 1200);
    };
    // What cannot be taken back is asked about first; without scripts it is done at once.
    document.addEventListener("submit", (event) => {
        const form = event.target, text = form.dataset.confirm;
        if (!text || form.dataset.sure) return;
        event.preventDefault();
        const dialog = $("#confirm");
        write($("#confirm-text"), text);
        write($("#confirm-yes"), event.submitter?.textContent.trim() || "Yes");
        dialog.returnValue = "";
        dialog.onclose = () => {
            if (dialog.returnValue !== "yes") return;
            form.dataset.sure = "yes";
            form.requestSubmit(event.submitter);
        };
        dialog.showModal();
    });
    document.addEventListener("keydown", (event) => {
        if (event.key !== "/" || event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey) return;
        const field = $("[data-search]");
        if (field) { event.preventDefault(); field.focus(); }
    });
    document.addEventListener("change", (event) => {
        if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
    });

    // What was said about an action is for this look, not for a bookmark.
    const address = new URL(location.href);
    if (address.searchParams.has("notice")) {
        address.searchParams.delete("notice");
        history.replaceState(null, "", address);
    }

    tick();
    open();
})();
