// The latent explorer of report.html: E[x|z] of a decoder of fully connected layers, in the page.
//
//   h = activation(W h + b) in each hidden layer, out = W h + b, E[x|z] = scale mean(out) + shift
//
// results/explorer.py writes the elements that this fills with life, and calls `explorer`.

// Arrays out of base64; numbers are little-endian, as in all browsers.
const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
const float32 = text => new Float32Array(bytes(text).buffer);

// Float16Array is too new to rely on.
function float16(text) {
  const power = Float32Array.from({ length: 32 }, (_, e) => 2 ** (Math.max(e, 1) - 25));
  return Float32Array.from(new Uint16Array(bytes(text).buffer), half => {
    const exponent = half >> 10 & 31, fraction = (half & 1023) + (exponent ? 1024 : 0);
    return (half >> 15 ? -1 : 1) * fraction * power[exponent];
  });
}

// A draw from N(0, 1), by Box and Muller.
function normal() {
  const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
  return radius * Math.cos(2 * Math.PI * Math.random());
}

// Draws an example, given as shares in [0, 1] of the range of values that is shown, on a canvas.
function painter({ shape, curve, ink }) {
  if (curve) return paintCurve;
  const [height, width, channels] = shape, colour = channels === 3;
  const across = colour ? width : width * channels; // other channels lie side by side
  return (canvas, shares) => {
    canvas.width = across;
    canvas.height = height;
    const image = new ImageData(across, height);
    for (let row = 0, at = 0; row < height; row++) {
      for (let column = 0; column < across; column++, at += 4) {
        const pixel = row * width + column % width, channel = Math.floor(column / width);
        for (let c = 0; c < 3; c++) {
          const share = shares[pixel * channels + (colour ? c : channel)];
          image.data[at + c] = Math.round(255 * (ink && !colour ? 1 - share : share));
        }
        image.data[at + 3] = 255;
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  };
}

function paintCurve(canvas, shares, thickness = 3) {
  const width = canvas.width = 552, height = canvas.height = 336, edge = 12;
  canvas.style.imageRendering = "auto";
  const pen = canvas.getContext("2d"), across = (width - 2 * edge) / Math.max(1, shares.length - 1);
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  pen.strokeStyle = "#1f77b4"; // the colour of curves in the pictures
  pen.lineWidth = thickness;
  pen.beginPath();
  shares.forEach((share, i) => {
    pen.lineTo(edge + i * across, height - edge - share * (height - 2 * edge));
  });
  pen.stroke();
}

function explorer(data, { activation, mean }) {
  const root = document.getElementById("explorer");
  const find = name => root.querySelector(`[data-is=${name}]`);
  const size = data.shape.reduce((a, b) => a * b, 1); // values of an example
  const layers = data.kernels.map((kernel, i) => (
    { kernel: data.half ? float16(kernel) : float32(kernel), bias: float32(data.biases[i]) }));
  const codes = float32(data.codes), examples = bytes(data.examples);
  const samples = data.samples && float32(data.samples);
  const shift = data.shift && float32(data.shift), scale = data.scale && float32(data.scale);
  const paint = painter(data);
  const sliders = [...root.querySelectorAll("[data-unit]")];
  const z = new Float32Array(data.width); // may lie beyond the range of a slider

  // E[x|z] in the data's units.
  function decode(z) {
    let h = z;
    layers.forEach(({ kernel, bias }, layer) => {
      const next = new Float32Array(bias.length);
      for (let to = 0, at = 0; to < next.length; to++) {
        let sum = bias[to];
        for (let from = 0; from < h.length; from++) sum += kernel[at++] * h[from];
        next[to] = layer < layers.length - 1 ? activation(sum) : sum;
      }
      h = next;
    });
    const x = new Float32Array(size), out = new Float32Array(h.length / size);
    for (let i = 0, at = 0; i < size; i++) {
      for (let channel = 0; channel < out.length; channel++) out[channel] = h[at++];
      x[i] = scale ? mean(out) * scale[i] + shift[i] : mean(out);
    }
    return x;
  }

  function shares(x) {
    const [low, high] = data.look;
    return x.map(value => Math.min(1, Math.max(0, (value - low) / (high - low))));
  }

  // Shows z wherever it is seen; `caption` says what is decoded.
  function show(caption) {
    paint(find("decoded"), shares(decode(z)));
    label("decoded", caption);
    for (const slider of sliders) {
      const value = z[slider.dataset.unit];
      slider.value = value;
      slider.nextElementSibling.textContent =
        Math.abs(value) < 1000 ? value.toFixed(2) : value.toPrecision(4);
    }
    if (plane) plane.mark();
  }

  function label(name, caption) {
    const canvas = find(name);
    canvas.ariaLabel = caption;
    canvas.nextElementSibling.textContent = caption;
  }

  function set(values, caption) {
    z.set(values);
    find("example").closest("figure").style.visibility = "hidden";
    show(caption);
  }

  function start(number) {
    const shown = examples.subarray(number * size, (number + 1) * size);
    set(codes.subarray(number * z.length, (number + 1) * z.length), "E[x|z], its reconstruction");
    paint(find("example"), Float32Array.from(shown, value => value / 255));
    label("example", `test example ${data.positions[number]}`);
    find("example").closest("figure").style.visibility = "visible";
  }

  function draw() {
    const number = samples && Math.floor(Math.random() * samples.length / z.length);
    set(samples ? samples.subarray(number * z.length, (number + 1) * z.length) : z.map(normal),
      "E[x|z] of a draw z ~ p(z)");
  }

  // The plane of a two-dimensional code: E[x|z] on a grid, and a mark at z that can be moved.
  function makePlane(canvas) {
    const range = [0, 1].map(unit => {
      const { min, max } = sliders.find(slider => slider.dataset.unit == unit);
      return [+min, +max];
    });
    const [[left, right], [bottom, top]] = range, num = data.curve ? 9 : 15;
    const tile = document.createElement("canvas"), behind = document.createElement("canvas");
    paint(tile, shares(decode(z)));
    canvas.width = behind.width = 720;
    canvas.height = behind.height = Math.round(720 * Math.min(2, tile.height / tile.width));
    const width = canvas.width / num, height = canvas.height / num;
    const pen = behind.getContext("2d");
    pen.imageSmoothingEnabled = data.curve;
    for (let row = 0; row < num; row++) {
      for (let column = 0; column < num; column++) {
        const across = left + (column + 0.5) / num * (right - left);
        const up = top - (row + 0.5) / num * (top - bottom);
        paint(tile, shares(decode([across, up])), 9);
        pen.drawImage(tile, column * width, row * height, width, height);
      }
    }
    const move = (across, up) => {
      const clip = (value, [low, high]) => Math.min(high, Math.max(low, value));
      set([clip(across, range[0]), clip(up, range[1])], "E[x|z]");
    };
    canvas.onpointerdown = event => {
      canvas.setPointerCapture(event.pointerId);
      canvas.onpointermove(event);
    };
    canvas.onpointermove = event => {
      if (!event.buttons) return;
      const box = canvas.getBoundingClientRect();
      move(left + (event.clientX - box.left) / box.width * (right - left),
        top - (event.clientY - box.top) / box.height * (top - bottom));
    };
    canvas.onkeydown = event => {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
      if (!by[event.key]) return;
      event.preventDefault(); // the page would scroll
      const [across, up] = by[event.key];
      move(z[0] + across * (right - left) / 50, z[1] + up * (top - bottom) / 50);
    };
    const mark = () => {
      const pen = canvas.getContext("2d");
      pen.drawImage(behind, 0, 0);
      const x = (z[0] - left) / (right - left) * canvas.width;
      const y = (top - z[1]) / (top - bottom) * canvas.height;
      for (const [colour, thick] of [["#fff", 9], ["#d6006e", 5]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = thick;
        pen.beginPath();
        pen.arc(x, y, 16, 0, 2 * Math.PI);
        pen.stroke();
      }
    };
    return { mark };
  }

  const plane = find("plane") && makePlane(find("plane"));
  for (const slider of sliders) {
    slider.oninput = () => {
      z[slider.dataset.unit] = slider.valueAsNumber;
      show("E[x|z]");
    };
  }
  find("start").oninput = event => start(event.target.valueAsNumber);
  find("reset").onclick = () => set(new Float32Array(z.length), "E[x|z] at z = 0");
  if (find("draw")) find("draw").onclick = draw;
  find("start").value = 0;
  start(0);
  return { z, decode };
}
