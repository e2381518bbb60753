// Search works in pages that are opened as files.  Browsers refuse workers there, so this class runs the script of a
// worker in a hidden frame.  The theme looks for the names iframe-worker and IFrameWorker.
"use strict";

class FileWorker extends EventTarget {
  constructor(url) {
    super();
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    document.body.append(this.frame);
    const page = this.frame.contentDocument;
    page.open();
    page.write("<!doctype html><title>worker</title><body>");
    page.close();
    this.inside = this.frame.contentWindow;
    this.inside.postMessage = (data) => {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      this.onmessage?.(event);
    };
    this.inside.importScripts = async (...urls) => {
      for (const one of urls) await load(page, one);
    };
    this.ready = load(page, url);
  }

  postMessage(data) {
    this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
  }

  terminate() {
    this.frame.remove();
  }
}

function load(page, url) {
  return new Promise((resolve, reject) => {
    const script = page.createElement("script");
    script.src = url;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${url} cannot be loaded`));
    page.body.append(script);
  });
}

if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = FileWorker;
}
