// Draws the first mesh of a GLB on a 2D canvas: enough to see what it is, on every browser, without a GPU.
// A mesh with more than 30,000 triangles, or one that needs an extension, is left to a real viewer.
function showMesh(canvas, buffer) {
  const view = new DataView(buffer);
  if (view.getUint32(0, true) !== 0x46546c67) return false;
  const jsonLength = view.getUint32(12, true);
  const gltf = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 20, jsonLength)));
  const binary = 28 + jsonLength;
  const part = gltf.meshes && gltf.meshes[0].primitives[0];
  if (!part || gltf.extensionsRequired) return false;
  const kinds = { 5121: ["getUint8", 1, 255], 5123: ["getUint16", 2, 65535], 5125: ["getUint32", 4, 1], 5126: ["getFloat32", 4, 1] };
  const widths = { SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4 };
  const read = (index, plain) => {
    const accessor = gltf.accessors[index], place = gltf.bufferViews[accessor.bufferView];
    const [get, size, most] = kinds[accessor.componentType], width = widths[accessor.type];
    const stride = place.byteStride || size * width, start = binary + (place.byteOffset || 0) + (accessor.byteOffset || 0);
    const values = [];
    for (let i = 0; i < accessor.count; i++) {
      const value = [];
      for (let j = 0; j < width; j++) value.push(view[get](start + i * stride + j * size, true) / (plain ? 1 : most));
      values.push(value);
    }
    return values;
  };
  const corners = read(part.attributes.POSITION);
  const colours = part.attributes.COLOR_0 === undefined ? null : read(part.attributes.COLOR_0);
  const order = part.indices === undefined ? corners.map((_, i) => i) : read(part.indices, true).map(v => v[0]);
  if (order.length > 90000) return false;
  const low = [0, 1, 2].map(k => corners.reduce((m, c) => Math.min(m, c[k]), Infinity));
  const high = [0, 1, 2].map(k => corners.reduce((m, c) => Math.max(m, c[k]), -Infinity));
  const middle = low.map((v, k) => (v + high[k]) / 2);
  const reach = corners.reduce((m, c) => Math.max(m, Math.hypot(...c.map((v, k) => v - middle[k]))), 0) || 1;
  const pen = canvas.getContext("2d");
  let turn = 0.6, tilt = 0.35, held = null;
  canvas.onpointerdown = e => { held = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); };
  canvas.onpointermove = e => {
    if (!held) return;
    turn += (e.clientX - held[0]) / 120; tilt += (e.clientY - held[1]) / 120; held = [e.clientX, e.clientY];
    draw();
  };
  canvas.onpointerup = () => { held = null; };
  function draw() {
    const size = canvas.width, scale = size * 0.46 / reach;
    const [cy, sy, cx, sx] = [Math.cos(turn), Math.sin(turn), Math.cos(tilt), Math.sin(tilt)];
    const at = corners.map(c => {
      const [x, y, z] = c.map((v, k) => v - middle[k]);
      const u = x * cy + z * sy, w = z * cy - x * sy;
      return [u, y * cx - w * sx, y * sx + w * cx];
    });
    const faces = [];
    for (let i = 0; i + 2 < order.length; i += 3) {
      const [a, b, c] = [at[order[i]], at[order[i + 1]], at[order[i + 2]]];
      const e = b.map((v, k) => v - a[k]), f = c.map((v, k) => v - a[k]);
      const n = [e[1] * f[2] - e[2] * f[1], e[2] * f[0] - e[0] * f[2], e[0] * f[1] - e[1] * f[0]];
      if (n[2] <= 0) continue;
      const light = 0.35 + 0.65 * Math.max(0, (n[0] * 0.35 + n[1] * 0.55 + n[2] * 0.75) / (Math.hypot(...n) || 1));
      const paint = colours ? colours[order[i]] : [0.62, 0.68, 0.8];
      faces.push([a[2] + b[2] + c[2], a, b, c, paint.slice(0, 3).map(v => Math.round(255 * Math.min(1, v * light)))]);
    }
    faces.sort((a, b) => a[0] - b[0]);
    pen.clearRect(0, 0, size, size);
    for (const [, a, b, c, colour] of faces) {
      pen.beginPath();
      for (const p of [a, b, c]) pen.lineTo(size / 2 + p[0] * scale, size / 2 - p[1] * scale);
      pen.closePath();
      pen.fillStyle = pen.strokeStyle = `rgb(${colour.join()})`;
      pen.fill(); pen.stroke();
    }
  }
  function spin() {
    if (!canvas.isConnected) return;
    if (!held && order.length < 30000 && !matchMedia("(prefers-reduced-motion: reduce)").matches) { turn += 0.008; draw(); }
    requestAnimationFrame(spin);
  }
  draw();
  requestAnimationFrame(spin);
  return true;
}
